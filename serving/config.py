"""Settings of the index and the exported retriever."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fairness_losses.config import Settings
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

    leaves: int | None = Field(default=None, ge=1)
    """Partitions of the ScaNN tree; by default about the square root of the catalogue size."""

    leaves_to_search: int | None = Field(default=None, ge=1)
    """Partitions looked into per query; by default a tenth of `leaves`, at least ten."""

    reorder: int | None = Field(default=None, ge=1)
    """Candidates whose exact score is computed; by default ten times `k`."""

    policy: PolicyConfig = PolicyConfig()
    """Which items of which groups make a list."""

    also_exact: bool = False
    """With a ScaNN index, whether `<name>-exact` is exported beside it: the same model with exact
    search, whose graph has core TensorFlow ops only and runs on a stock server."""
