"""Settings of the index and the exported retriever."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fairness_losses.config import Settings
from serving.log.config import LogConfig


class ServingConfig(Settings):
    """How the catalogue is searched and what a request returns."""

    name: str = Field(default="retriever", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Model name: the SavedModel lies in `serving/<name>/<version>/`."""

    k: int = Field(default=100, ge=1)
    """Candidates returned per request."""

    index: Literal["auto", "exact", "scann"] = "auto"
    """`exact` compares with every vector; `scann` is approximate; `auto` takes `exact` for
    catalogues of at most `exact_up_to` items, where it is as fast."""

    exact_up_to: int = Field(default=20_000, ge=1)
    """Largest catalogue that `auto` searches exactly."""

    leaves: int | None = Field(default=None, ge=1)
    """Partitions of the ScaNN tree; by default about the square root of the catalogue size."""

    leaves_to_search: int | None = Field(default=None, ge=1)
    """Partitions looked into per query; by default a tenth of `leaves`, at least ten."""

    reorder: int | None = Field(default=None, ge=1)
    """Candidates whose exact score is computed; by default ten times `k`."""

    keep_versions: int | None = Field(default=None, ge=1)
    """Exported versions kept; older ones are deleted at an export, but for those that a label
    points to or `fairtowers rollback` would return to. All by default."""

    log: LogConfig = LogConfig()
    """What the local server logs of its answers."""

    def of_the_index(self) -> dict[str, Any]:
        """Returns what an index depends on, as JSON values."""
        return self.model_dump(mode="json", exclude={"keep_versions", "log"})
