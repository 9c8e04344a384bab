"""From raw query features to a list of candidates that says what it is, in one graph."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from serving.mix.mix import CandidateMix, Controls
from serving.search import NO_ITEM, require_scann

POLICY_KEY, EXCLUDE_IDS = "policy_key", "exclude_ids"
CONTROL_GROUPS, CONTROL_WEIGHTS = "control_groups", "control_weights"

CONTROLS = {
    POLICY_KEY: tf.TensorSpec([None], tf.string, name=POLICY_KEY),
    EXCLUDE_IDS: tf.TensorSpec([None, None], tf.string, name=EXCLUDE_IDS),
    CONTROL_GROUPS: tf.TensorSpec([None, None], tf.string, name=CONTROL_GROUPS),
    CONTROL_WEIGHTS: tf.TensorSpec([None, None], tf.float32, name=CONTROL_WEIGHTS),
}
"""Inputs of the signature `controlled`, besides the features."""

ALL_OTHERS = "*"
"""Name in `control_groups` of all groups that are not named."""

PRICES = "prices"
"""Output of `steering_prices`, and input of `set_steering_prices`."""

METADATA_FILE = "metadata.json"
"""Beside the SavedModel: what it is, see `serving.export`."""


class Retriever(tf.Module):
    """Query tower, candidate mix and the names of items and groups.

    The inputs are those of the query tower, so a sensitive attribute is one only if the towers
    were allowed it. The group of a candidate is a property of the item and is an output.
    """

    def __init__(
        self,
        query_tower: Any,
        mix: CandidateMix,
        item_ids: np.ndarray,
        group_labels: Sequence[str],
        model_version: str,
        *,
        policy_keys: Sequence[str] = (),
        candidate_tower: Any = None,
        temperature: float = 1.0,
    ) -> None:
        """Initialises the retriever.

        Args:
            query_tower: Loaded SavedModel whose signature `serving_default` takes raw features,
                each `[num_queries]` or `[num_queries, n]`, and returns `embedding`, float32
                `[num_queries, dim]`.
            mix: Of the catalogue.
            item_ids: Unique non-empty ids, string `[num_items]`.
            group_labels: Names of the groups, in the order of the mix.
            model_version: Written on every list.
            policy_keys: Of the policy rows after the first, in their order.
            candidate_tower: As the query tower, of items; None where only their vectors are known.
            temperature: What scores are divided by to be logits.
        """
        super().__init__()
        self._query_tower, self._candidate_tower = query_tower, candidate_tower
        self._mix = mix
        self._model_version = model_version
        self._temperature = temperature
        # `NO_ITEM` is -1: each name is looked up one place further on, after the name of none.
        self._item_ids = tf.constant(["", *item_ids], tf.string)
        self._labels = tf.constant(["", *group_labels], tf.string)
        self._row_of = _table(item_ids, range(len(item_ids)), NO_ITEM)
        self._group_of = _table(group_labels, range(len(group_labels)), NO_ITEM)
        self._policy_row_of = _table(["", *policy_keys], range(len(policy_keys) + 1), 0)
        self._policies = tf.constant(mix.names)

    @property
    def k(self) -> int:
        """Length of the lists."""
        return self._mix.k

    def make_signatures(self) -> dict[str, Any]:
        """Traces what a server can be asked.

        Returns:
            Concrete functions to save as signatures. Three take the query tower's features by name
            and return lists: `candidate_ids` string `[num_queries, k]`, `scores` (dot products)
            float32 `[num_queries, k]`, `groups` string `[num_queries, k]`, `policy` and
            `model_version` string `[num_queries]`; a list that is short, because the catalogue
            is, ends with `""`, -inf and `""`.

            - `serving_default`: under the default policy;
            - `relevance`: by score alone;
            - `controlled`: under the policy of `policy_key`, string `[num_queries]` (the default
              for `""` and keys that are not known), without the items of `exclude_ids`, string
              `[num_queries, num_excluded]`, padded with `""`; `control_groups`, string, and
              `control_weights`, float32, both `[num_queries, num_controls]`, multiply the odds of
              a group's items: 0 leaves the group out, 1 (with `""`) pads, `*` is every group that
              is not named. Ids and groups that the catalogue has not are ignored.

            `query_embedding` and, with a candidate tower, `candidate_embedding` return `embedding`,
            float32 `[num_queries, dim]`, of features. Under the policy `steered`,
            `steering_prices` returns `prices`, float32, and their `groups`, string, both
            `[num_queries, num_groups]`, for the policies of `policy_key`; `set_steering_prices`
            takes `prices`, too, which they have from then on. All inputs and outputs have the
            first dimension of a request, so that a server can merge requests.
        """
        features = self._embed.structured_input_signature[1]
        signatures = {
            "serving_default": _trace(self._by_policy, features),
            "relevance": _trace(self._by_relevance, features),
            "controlled": _trace(self._controlled, {**features, **CONTROLS}),
            "query_embedding": _trace(self._query_embedding, features),
        }
        if self._candidate_tower is not None:
            item = self._candidate_tower.signatures["serving_default"]
            specs = item.structured_input_signature[1]
            signatures["candidate_embedding"] = _trace(self._candidate_embedding, specs)
        if self._mix.prices is not None:
            key = {POLICY_KEY: CONTROLS[POLICY_KEY]}
            new = tf.TensorSpec([None, self._mix.num_groups], tf.float32, name=PRICES)
            signatures["steering_prices"] = _trace(self._steering_prices, key)
            signatures["set_steering_prices"] = _trace(
                self._set_steering_prices, {**key, PRICES: new}
            )
        return signatures

    @property
    def _embed(self) -> Any:
        return self._query_tower.signatures["serving_default"]

    def _query_embedding(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": self._embed(**features)["embedding"]}

    def _candidate_embedding(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        tower = self._candidate_tower.signatures["serving_default"]
        return {"embedding": tower(**features)["embedding"]}

    def _by_policy(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        queries = self._embed(**features)["embedding"]
        num_queries = tf.shape(queries)[0]
        rows, scores = self._mix.by_policy(queries)
        row = tf.zeros([num_queries], tf.int32)
        self._observe(rows, row, tf.ones([num_queries], tf.bool))
        return self._lists(rows, scores, tf.gather(self._policies, row))

    def _by_relevance(self, **features: tf.Tensor) -> dict[str, tf.Tensor]:
        queries = self._embed(**features)["embedding"]
        rows, scores = self._mix.by_relevance(queries)
        return self._lists(rows, scores, tf.fill(tf.shape(queries)[:1], "relevance"))

    def _controlled(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        row = tf.cast(self._policy_row_of.lookup(inputs.pop(POLICY_KEY)), tf.int32)
        excluded = tf.cast(self._row_of.lookup(inputs.pop(EXCLUDE_IDS)), tf.int32)
        log_odds = self._log_odds(inputs.pop(CONTROL_GROUPS), inputs.pop(CONTROL_WEIGHTS))
        queries = self._embed(**inputs)["embedding"]
        controls = Controls(row, excluded, self._temperature * log_odds)
        rows, scores = self._mix.controlled(queries, controls)
        is_neutral = tf.reduce_all(log_odds == 0, axis=1)
        # Users who pick groups themselves say nothing of what the policy owes to groups.
        self._observe(rows, row, is_neutral)
        policy = tf.gather(self._policies, row) + tf.where(is_neutral, "", "+groups")
        return self._lists(rows, scores, policy)

    def _log_odds(self, names: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Logarithm of every group's weight, `[num_queries, num_groups]`; -inf leaves it out."""
        log_weights = tf.math.log(tf.maximum(weights, 0.0))
        is_of = self._group_of.lookup(names)[:, :, tf.newaxis] == tf.range(
            self._mix.num_groups, dtype=tf.int64
        )
        # Means: a server that merges requests repeats what is named to make them equally long.
        own = _mean_where(is_of, log_weights[:, :, tf.newaxis])
        others = _mean_where(names == ALL_OTHERS, log_weights)[:, tf.newaxis]
        return tf.where(tf.reduce_any(is_of, axis=1), own, others)

    def _observe(self, rows: tf.Tensor, row: tf.Tensor, counts: tf.Tensor) -> None:
        if self._mix.prices is not None:
            self._mix.prices.observe(row, self._mix.codes_of(rows), counts)

    def _steering_prices(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        assert self._mix.prices is not None
        row = tf.cast(self._policy_row_of.lookup(inputs[POLICY_KEY]), tf.int32)
        prices = self._mix.prices.of(row)
        groups = tf.tile(self._labels[tf.newaxis, 1:], [tf.size(row), 1])
        return {PRICES: prices, "groups": groups}

    def _set_steering_prices(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        prices = self._mix.prices
        assert prices is not None
        row = self._policy_row_of.lookup(inputs[POLICY_KEY])
        before = prices.all()
        after = tf.tensor_scatter_nd_update(before, row[:, tf.newaxis], inputs[PRICES])
        # As a difference, so that nothing is lost of what other requests add meanwhile.
        prices.add(after - before)
        return self._steering_prices(**{POLICY_KEY: inputs[POLICY_KEY]})

    def _lists(self, rows: tf.Tensor, scores: tf.Tensor, policy: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.ensure_shape(rows, [None, self.k])
        return {
            "candidate_ids": tf.gather(self._item_ids, rows + 1),
            "scores": tf.ensure_shape(scores, [None, self.k]),
            "groups": tf.gather(self._labels, self._mix.codes_of(rows) + 1),
            "policy": policy,
            "model_version": tf.fill(tf.shape(rows)[:1], self._model_version),
        }


def _mean_where(chosen: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Mean along the second axis of the chosen values; 0 where there are none."""
    total = tf.reduce_sum(tf.where(chosen, values, 0.0), axis=1)
    number = tf.math.count_nonzero(chosen, axis=1, dtype=tf.float32)
    return total / tf.maximum(number, 1.0)


def _table(keys: Sequence[str] | np.ndarray, values: Any, default: int) -> Any:
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant([*keys], tf.string), tf.constant([*values], tf.int64)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=default)


def _trace(function: Callable, inputs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(**inputs)


def load_retriever(version_dir: pathlib.Path) -> Any:
    """Loads an exported retriever, with ScaNN's ops where it needs them.

    Args:
        version_dir: What `serving.export.export` returned.

    Returns:
        The loaded SavedModel; ask its `signatures`.

    Raises:
        InvalidInputError: The folder holds no export, or ScaNN is needed and cannot be imported.
    """
    path = pathlib.Path(version_dir) / METADATA_FILE
    if not path.is_file():
        raise InvalidInputError(f"{version_dir}: holds no exported retriever ({path.name}).")
    if json.loads(path.read_text(encoding="utf-8"))["requires_scann_ops"]:
        require_scann()
    return tf.saved_model.load(str(version_dir))
