"""Settings of monitoring: windows of time, and what is worth an alert."""

from __future__ import annotations

from pydantic import Field, model_validator

from fairness_losses.config import Settings


class MonitoringConfig(Settings):
    """Windows of time over served lists, and the band that exposure ratios should stay in."""

    window: int = Field(default=3600, ge=1)
    """Length of a window, in seconds."""

    max_delay: int = Field(default=300, ge=0)
    """A window is reported when a list was seen that is so many seconds later than its end: lists
    may be out of order by as much. For `fairtowers watch`; other sources know their own time."""

    allowed_lateness: int = Field(default=86_400, ge=0)
    """For so many seconds after that, lists that come late correct the window's report; then they
    become dead letters."""

    bootstrap_samples: int = Field(default=200, ge=100)
    """Resamples of the users behind every interval."""

    low: float = Field(default=0.8, ge=0)
    """Lower end of the band of exposure ratios."""

    high: float = Field(default=1.25, gt=0)
    """Upper end of the band. There is an alert if a ratio's whole interval lies outside."""

    groups: list[str] | None = None
    """Groups whose ratio can be an alert; by default all that have a target."""

    min_count: int = Field(default=1000, ge=1)
    """A ratio that rests on fewer candidates of all groups in its cell is no alert. Cells of fewer
    than `audit.min_users` users are suppressed anyway."""

    @model_validator(mode="after")
    def _check_band(self) -> MonitoringConfig:
        if not self.low < self.high:
            raise ValueError(f"`low` should be below `high`. Received: {self.low}, {self.high}.")
        return self
