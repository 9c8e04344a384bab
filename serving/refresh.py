"""A ScaNN index brought up to date without building it anew.

The tree and the codebook stay. Items that are gone, or whose vector has changed, are taken out of
the index; what is new is searched exactly beside it, and the two lists are merged. The settings
stay as they were tuned. Exact search grows with what is new, so a refresh is worth it only while
little has changed since the index was built.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from serving.config import ServingConfig
from serving.index_files import ITEMS_FILE, SCANN_FOLDER, read_report, write_items
from serving.scann_state import load_state, save_state, take_rows
from serving.search import NO_ITEM, Search


@dataclasses.dataclass(frozen=True)
class Changes:
    """What a refresh did, counted since the index was built.

    Attributes:
        built: Items that the index was built of.
        kept: Those of them that are as they were.
        added: Items searched exactly: new, or with another vector.
    """

    built: int
    kept: int
    added: int

    @property
    def share(self) -> float:
        """Items taken out and items added, over the size of the catalogue."""
        return (self.built - self.kept + self.added) / (self.kept + self.added)


class RefreshedSearch(tf.Module):
    """An index of some items of the catalogue merged with a search of the others."""

    def __init__(
        self, base: Search, base_rows: np.ndarray, added: Search, added_rows: np.ndarray
    ) -> None:
        """Initialises the search.

        Args:
            base: The index.
            base_rows: Rows of its items in the catalogue, ascending, int `[num_base]`.
            added: Search of the other items; at least one.
            added_rows: Their rows in the catalogue, ascending, int `[num_added]`.
        """
        super().__init__()
        self._parts = [base, added]
        sizes = [len(base_rows), len(added_rows)]
        self._sizes = sizes
        # One more row, so that `NO_ITEM` can be looked up like any other.
        self._rows = [tf.constant([*rows, NO_ITEM], tf.int32) for rows in (base_rows, added_rows)]
        self._places = []
        for rows in (base_rows, added_rows):
            places = np.full(sum(sizes) + 1, NO_ITEM, np.int32)
            places[rows] = np.arange(len(rows))
            self._places.append(tf.constant(places))

    def __call__(
        self, queries: tf.Tensor, k: int, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Search`."""
        all_rows, all_scores = [], []
        for part, size, rows_of, place_of in zip(
            self._parts, self._sizes, self._rows, self._places, strict=True
        ):
            places = tf.gather(place_of, _or_last(excluded, sum(self._sizes)))
            places, scores = part(queries, tf.minimum(k, size), places)
            all_rows.append(tf.gather(rows_of, _or_last(places, size)))
            all_scores.append(scores)
        rows = tf.concat(all_rows, axis=1)
        # Of equal scores the lower row comes first, whichever part it is from.
        by_row = tf.argsort(rows, axis=1)
        scores = tf.gather(tf.concat(all_scores, axis=1), by_row, batch_dims=1)
        scores, best = tf.math.top_k(scores, k)
        rows = tf.gather(rows, tf.gather(by_row, best, batch_dims=1), batch_dims=1)
        return rows, scores


def _or_last(rows: tf.Tensor, last: int) -> tf.Tensor:
    return tf.where(rows == NO_ITEM, last, rows)


def refresh_index(
    previous_dir: pathlib.Path,
    vectors: np.ndarray,
    item_ids: np.ndarray,
    config: ServingConfig,
    out_dir: pathlib.Path,
) -> Changes | None:
    """Writes the ScaNN index of a catalogue from that of an earlier one, if little has changed.

    Items are the same if their ids are and their vectors differ by rounding alone. After another
    training no vector is, so an index never outlives its model.

    Args:
        previous_dir: What `serving.index.build_index` wrote.
        vectors: Catalogue, float32 `[num_items, dim]`.
        item_ids: Unique ids, string `[num_items]`.
        config: `refresh_up_to` is the largest share of changed items; more than `exact_up_to`
            added ones are too many, too.
        out_dir: Receives the folder `scann` and `ITEMS_FILE`.

    Returns:
        What has changed; None, and nothing is written, where the index has to be built anew.
    """
    if not config.refresh_up_to:
        return None
    report = read_report(previous_dir)
    if report is None or report.get("built_for") != built_for(config):
        return None
    if not (previous_dir / ITEMS_FILE).is_file():
        return None
    state = load_state(previous_dir / SCANN_FOLDER)
    if state["dataset"].shape[1:] != vectors.shape[1:]:
        return None
    previous_ids = pq.read_table(previous_dir / ITEMS_FILE)["item_id"].combine_chunks()
    place = pc.index_in(pa.array(item_ids, pa.string()), value_set=previous_ids)
    place = place.fill_null(NO_ITEM).to_numpy()
    is_kept = place != NO_ITEM
    is_kept[is_kept] = np.isclose(
        vectors[is_kept], state["dataset"][place[is_kept]], rtol=1e-4, atol=1e-5
    ).all(axis=1)
    built = (report["refreshed"] or {"built": report["num_items"]})["built"]
    kept = int(is_kept.sum())
    changes = Changes(built, kept, len(vectors) - kept)
    if not kept or changes.share > config.refresh_up_to or changes.added > config.exact_up_to:
        return None
    save_state(take_rows(state, place[is_kept]), out_dir / SCANN_FOLDER)
    write_items(item_ids, np.flatnonzero(is_kept), out_dir)
    return changes


def built_for(config: ServingConfig) -> dict[str, Any]:
    """The settings that an index depends on; with others it is built anew."""
    names = {"k", "index", "leaves", "leaves_to_search", "reorder", "recall_target"}
    return config.model_dump(mode="json", include=names)
