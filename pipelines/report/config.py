"""Settings of the report: what only people know about the data, the model and its targets."""

from __future__ import annotations

from fairness_losses.config import Settings


class DataCardConfig(Settings):
    """What people know about the data, after "Datasheets for Datasets" (Gebru et al., 2021)."""

    source: str | None = None
    """Where the interactions come from, and under which licence or contract."""
    period: str | None = None
    """When they were collected."""
    grounds: str | None = None
    """On which grounds people's attributes may be used: consent, or a law."""
    item_groups: str | None = None
    """Who said which group an item belongs to, and how."""
    user_slices: str | None = None
    """Who said which slices a user belongs to, and how."""
    gaps: list[str] = []
    """Whom or what the data leave out."""


class CardConfig(Settings):
    """What people know about the model, after "Model Cards" (Mitchell et al., 2019)."""

    intended_use: str | None = None
    """What the lists are for, and who sees them."""
    not_for: str | None = None
    """What the model should not be used for."""
    owner: str | None = None
    """Who answers for the model and how to reach them: a team or an office."""
    targets_set_by: str | None = None
    """Who decided which share of exposure every group should get."""
    targets_because: str | None = None
    """Why these targets, and when they were decided."""
    limits: list[str] = []
    """What is known to be wrong or unknown about the model, besides what every report says."""
    data: DataCardConfig = DataCardConfig()
    """The data."""


class ReportConfig(Settings):
    """What the report compares itself with."""

    release: str | None = None
    """What this release is called where releases are compared: a version, or a month."""
    previous: list[str] = []
    """Files `report.json` of earlier releases, the oldest first, each a path or a glob, relative to
    the folder of the YAML. The report shows the trend from them to this one."""
