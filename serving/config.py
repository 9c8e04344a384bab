"""Settings of the index and the exported retriever."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fairness_losses.config import Settings
from serving.log.config import LogConfig
from serving.mix.config import PolicyConfig


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

    recall_target: float = Field(default=0.95, gt=0, lt=1)
    """Share of the exact lists that a ScaNN index should find, over all items and in every group
    that is on them often enough to tell. The cheapest `leaves`, `leaves_to_search` and `reorder`
    that reach it are found by trying. Those given below are taken as they are: `leaves` alone is
    one thing less to try, with either of the others nothing is tried."""

    leaves: int | None = Field(default=None, ge=1)
    """Partitions of the ScaNN tree; by default about the square root of the catalogue size, or
    twice that."""

    leaves_to_search: int | None = Field(default=None, ge=1)
    """Partitions looked into per query. Where `reorder` alone is given, a tenth of `leaves`, at
    least ten."""

    reorder: int | None = Field(default=None, ge=1)
    """Candidates whose exact score is computed. Where `leaves_to_search` alone is given, ten times
    `k`."""

    max_share_change: float | None = Field(default=None, gt=0)
    """How far a ScaNN index may change the share of the places on lists that a group has, relative
    to exact search, before the run stops: with 0.05, a group with 10 % should keep 9.5 to 10.5 %.
    No limit by default."""

    shards: int = Field(default=1, ge=1)
    """Pieces of the index that are searched side by side and merged into the same lists."""

    refresh_up_to: float = Field(default=0.0, ge=0, le=1)
    """Share of the catalogue that may have changed since a ScaNN index was built for it to be
    brought up to date instead of built anew: new items are then searched exactly, those gone are
    taken out. The index then depends on the one before it; 0 always builds."""

    policy: PolicyConfig = PolicyConfig()
    """Which items of which groups make a list."""

    also_exact: bool = False
    """With a ScaNN index, whether `<name>-exact` is exported beside it: the same model with exact
    search, whose graph has core TensorFlow ops only and runs on a stock server."""

    keep_versions: int | None = Field(default=None, ge=1)
    """Exported versions kept; older ones are deleted at an export, but for those that a label
    points to or `fairtowers rollback` would return to. All by default."""

    log: LogConfig = LogConfig()
    """What the local server logs of its answers."""

    def of_the_index(self) -> dict[str, Any]:
        """Returns what an index depends on, as JSON values."""
        return self.model_dump(mode="json", exclude={"also_exact", "keep_versions", "log"})
