"""The lists that an exported model serves to the users of the test part, and what is relevant."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.config import RunConfig
from pipelines.slicing import divide
from serving.mix.policy_keys import read_keys
from serving.retrieve import retrieve_lists
from serving.retriever import load_retriever
from towers.config import ITEM_ID, USER_ID
from towers.examples import read_pairs
from towers.exported_tower import ExportedTower


def serve_test_users(
    examples: pathlib.Path, query_tower: pathlib.Path, version: pathlib.Path, config: RunConfig
) -> pa.Table:
    """Asks for the lists of all users with test positives, without what they chose before.

    Every user gets the policy of the own slice, as the service would ask for it.

    Args:
        examples: Folder that the examples pipeline wrote.
        query_tower: SavedModel of the query tower, which says what features a request has.
        version: Folder of the exported version to ask, beside which policy keys lie.
        config: The run configuration.

    Returns:
        A row per user, as `serving.retrieve.retrieve_lists` describes it.
    """
    users = pq.read_table(examples / "users.parquet")
    asked = pc.unique(read_pairs(examples, "test")[USER_ID])
    users = users.filter(pc.is_in(users[USER_ID], asked))
    known = known_pairs(examples, "test").group_by(USER_ID).aggregate([(ITEM_ID, "distinct")])
    # A user without a past takes a null, which is a list of no items.
    row = pc.index_in(users[USER_ID], known[USER_ID]).combine_chunks()
    return retrieve_lists(
        load_retriever(version),
        ExportedTower(query_tower).raw(users),
        users[USER_ID],
        known[f"{ITEM_ID}_distinct"].combine_chunks().take(row),
        policy_keys=_policy_keys(users, version.parent, config),
    )


def _policy_keys(users: pa.Table, model_dir: pathlib.Path, config: RunConfig) -> pa.Array:
    """The key of every user's slice, "" for those whose slice has no policy of its own."""
    keys = np.full(len(users), "", dtype=object)
    by_slice = config.serving.policy.by_slice
    if by_slice is not None:
        key_of = read_keys(model_dir, by_slice.slice)
        cells = divide(users[USER_ID].combine_chunks(), users, config.slices)
        for value, members in cells.slices[by_slice.slice].items():
            keys[members] = key_of.get(value, "") if value in by_slice.values else ""
    return pa.array(keys, pa.string())


def relevant_pairs(examples: pathlib.Path, part: str = "test") -> pa.Table:
    """Returns what the users of a part chose that they had not chosen before.

    A list holds nothing that its user has chosen before, so choosing it once more is no hit that
    could have been made.

    Args:
        examples: Folder that the examples pipeline wrote.
        part: `test` or `validation`.

    Returns:
        `user_id` and `item_id`, string.
    """
    chosen = read_pairs(examples, part)
    return chosen.join(known_pairs(examples, part), keys=[USER_ID, ITEM_ID], join_type="left anti")


def known_pairs(examples: pathlib.Path, part: str) -> pa.Table:
    """Returns what users chose before a part of the split, which is left out of their lists.

    Args:
        examples: Folder that the examples pipeline wrote.
        part: `test` or `validation`.

    Returns:
        `user_id` and `item_id`, string; a pair may repeat.
    """
    before = ("train", "validation") if part == "test" else ("train",)
    return pa.concat_tables([read_pairs(examples, part) for part in before])
