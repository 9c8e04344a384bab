"""Feature specification to tensors: raw columns in, one wide dense vector out.

Each feature works in two steps. `lookup` turns a raw column (strings, numbers) into small integers
or floats; it holds the string tables and runs once per run in training, and inside the graph when
serving. `call` embeds the result and is differentiable. XLA compiles only what comes after lookup.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from towers.bags import CategoricalLayer, TextLayer
from towers.config import (
    ITEM_ID,
    CategoricalFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    NumericFeature,
    TextFeature,
    VectorFeature,
)
from towers.feature_layer import FeatureLayer, embedding_table
from towers.ids import HistoryLayer, IdLayer
from towers.numbering import PADDING, UNSEEN, HashBins, Numbering, Vocabulary
from towers.numeric import NumericLayer, VectorLayer

__all__ = [
    "PADDING",
    "UNSEEN",
    "FeatureLayer",
    "FeatureStatistics",
    "HistoryLayer",
    "IdLayer",
    "NumericLayer",
    "build_feature",
    "item_ids",
    "lookup_columns",
]


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """What a feature has to know of the data before it can be built.

    Attributes:
        vocabulary: Values seen in training: of ids and categories that are not hashed, and of
            items for a history whose items no candidate tower numbers.
        mean: Mean, for numbers.
        variance: Variance, for numbers.
        length: Length of the vectors, for dense vectors.
    """

    vocabulary: Sequence[str] = ()
    mean: float = 0.0
    variance: float = 1.0
    length: int = 0


def build_feature(
    feature: Feature, statistics: FeatureStatistics, dim: int, items: IdLayer | None = None
) -> FeatureLayer:
    """Returns the layer of a feature.

    Args:
        feature: Its settings.
        statistics: What it has to know of the data.
        dim: Dimension of its embedding.
        items: The candidate tower's item ids, which a history numbers its items by and may share
            the embeddings of.

    Raises:
        InvalidInputError: There are no embeddings for a history to share.
    """
    match feature:
        case IdFeature():
            numbering = _numbering(feature, statistics)
            embedding = embedding_table(numbering.size, dim, "ids")
            return IdLayer(feature.column, numbering, embedding, feature.dropout)
        case CategoricalFeature():
            return CategoricalLayer(feature.column, _numbering(feature, statistics), dim)
        case NumericFeature():
            return NumericLayer(feature.column, statistics.mean, statistics.variance)
        case TextFeature():
            return TextLayer(feature.column, feature.bins, feature.max_words, feature.ngrams, dim)
        case VectorFeature():
            return VectorLayer(feature.column, statistics.length, feature.normalize, dim)
        case HistoryFeature():
            return _history(feature, statistics, dim, items)


def _numbering(feature: IdFeature | CategoricalFeature, statistics: FeatureStatistics) -> Numbering:
    return HashBins(feature.bins) if feature.bins else Vocabulary(statistics.vocabulary)


def _history(
    feature: HistoryFeature, statistics: FeatureStatistics, dim: int, items: IdLayer | None
) -> HistoryLayer:
    if feature.share_embedding and items is None:
        raise InvalidInputError(
            f"the history `{feature.column}` should share the embeddings of the candidate tower's "
            f"`{ITEM_ID}`, but was built without them."
        )
    numbering = items.numbering if items else Vocabulary(statistics.vocabulary)
    if feature.share_embedding and items is not None:
        embedding = items.embedding
    else:
        embedding = embedding_table(numbering.size, feature.dim or dim, "items")
    return HistoryLayer(feature.column, numbering, embedding, feature.pooling, feature.dropout)


def item_ids(layers: Sequence[FeatureLayer]) -> IdLayer | None:
    """Returns the item ids among the candidate tower's features, if they are one."""
    found = (layer for layer in layers if isinstance(layer, IdLayer) and layer.column == ITEM_ID)
    return next(found, None)


def lookup_columns(
    layers: Sequence[FeatureLayer], raw: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Applies every feature's lookup to its raw column.

    Raises:
        InvalidInputError: A column is missing.
    """
    missing = [layer.column for layer in layers if layer.column not in raw]
    if missing:
        raise InvalidInputError(
            f"the feature `{missing[0]}` is missing; given are {', '.join(sorted(raw))}."
        )
    return {layer.column: layer.lookup(raw[layer.column]) for layer in layers}
