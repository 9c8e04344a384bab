"""Steered lists for a stream of MovieLens users: the exposure that they reach, and what it costs.

    python -m benchmarks.steering --run runs/ml1m [--variant without_regularizer]

exports the model of a finished run of `configs/movielens_1m.yaml` under the policies `relevance`,
`quota` and `steered`, with exact search and with a ScaNN index, and asks every SavedModel for the
lists of the test users, without what they chose before, a few at a time. Prices are updated by the
served graph alone. Beside them stands the best that a constant can do: prices found on these very
users, which no service knows beforehand.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from fairness_losses.browsing import dcg_weights
from fairness_losses.config import TargetConfig
from fairness_losses.exposure import exposure_ratio, list_exposure
from fairness_losses.groups import Groups
from fairness_losses.metrics import ndcg_at_k
from pipelines.audit.served_lists import known_pairs, relevant_pairs
from serving.catalogue import Catalogue, load_catalogue
from serving.config import ServingConfig
from serving.export import export
from serving.index import build_index
from serving.mix.plan import index_queries, index_vectors, plan_mix
from serving.mix.steering import starting_prices
from serving.mix.targets import resolve_targets
from serving.retriever import load_retriever
from towers.exported_tower import ExportedTower

K, AT_ONCE, WINDOW, LONGEST = 100, 8, 2000, 6000
POLICIES: dict[str, dict[str, Any]] = {
    "relevance": {},
    "quota, tolerance 0.02": {"kind": "quota", "tolerance": 0.02},
    "quota, tolerance 0": {"kind": "quota", "tolerance": 0.0},
    "steered": {"kind": "steered"},
}


def main() -> None:
    """Prints two tables: ratios along the stream, and ratios and NDCG of all lists."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--variant", default="without_regularizer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stream = Stream(options.run, options.variant, options.seed)
    along, totals = [], [("constant prices of these users", "exact", stream.constant_bonus())]
    with tempfile.TemporaryDirectory() as folder:
        for index in ("exact", "scann"):
            for name, policy in POLICIES.items():
                lists = stream.serve(index, policy, pathlib.Path(folder))
                totals.append((name, index, lists))
                if name == "steered":
                    along += stream.along(index, lists)
    print(
        f"\n{len(stream.users)} users, {AT_ONCE} at a time; ratios of {', '.join(stream.named)}\n"
    )
    print("| steered | since the start | last 2,000 lists |\n|---|---|---|")
    print("\n".join(along))
    print("\n| policy | index | NDCG@100 | exposure ratios |\n|---|---|---|---|")
    for name, index, lists in totals:
        ratios = _as_text(stream.ratios(lists))
        print(f"| {name} | {index} | {stream.ndcg(lists):.4f} | {ratios} |")


class Stream:
    """The test users of a run in a random order, and their lists under a policy."""

    def __init__(self, run: pathlib.Path, variant: str, seed: int) -> None:
        self._examples, self._embeddings = run / "examples", run / variant / "embeddings"
        self._tower = run / variant / "model" / "query_tower"
        self.catalogue: Catalogue = load_catalogue(self._embeddings)
        self._targets = resolve_targets(
            self.catalogue.groups, ServingConfig(policy={"kind": "quota"}).policy, TargetConfig()
        )
        self._membership = Groups.from_labels(self.catalogue.groups).membership
        self.named = [g for g, s in zip(self._targets.labels, self._shares, strict=True) if s > 0]
        self._relevant = relevant_pairs(self._examples)
        users = pq.read_table(self._examples / "users.parquet")
        users = users.filter(pc.is_in(users["user_id"], pc.unique(self._relevant["user_id"])))
        order = np.random.default_rng(seed).permutation(len(users))[:LONGEST]
        self.users = users.take(pa.array(order))
        self._all_users = pq.read_table(self._examples / "users.parquet")
        item_ids = pa.array(self.catalogue.item_ids)
        self._known = self._rows_per_user(known_pairs(self._examples, "test"), item_ids)
        self._chosen = self._rows_per_user(self._relevant, item_ids)
        self._row_of = {item: row for row, item in enumerate(self.catalogue.item_ids)}

    @property
    def _shares(self) -> np.ndarray:
        return self._targets.shares[0]

    def serve(self, index: str, policy: dict[str, Any], folder: pathlib.Path) -> np.ndarray:
        """Exports the model and asks it, user after user; rows `[num_users, k]`."""
        config = ServingConfig(k=K, index=index, policy=policy)
        labels, vectors = self.catalogue.groups, self.catalogue.vectors
        tower = ExportedTower(self._tower)
        queries = tower.embed(self._all_users)
        build_index(
            index_vectors(vectors, labels, config.policy),
            labels,
            config,
            folder / "index",
            0,
            query_vectors=index_queries(queries, labels, config.policy),
        )
        if config.policy.kind != "relevance":
            plan_mix(
                vectors, labels, config, folder / "index", 0,
                target=TargetConfig(), query_vectors=queries,
            )  # fmt: skip
        raw = tower.raw(self.users)
        warmup = {name: values[:AT_ONCE] for name, values in raw.items()}
        version = export(
            self._tower, self._embeddings, folder / "index", config, folder, 1, {}, warmup
        )
        signature = load_retriever(version).signatures["controlled"]
        specs = signature.structured_input_signature[1]
        lists = np.zeros((len(self.users), K), np.int64)
        for start in range(0, len(lists), AT_ONCE):
            users = slice(start, start + AT_ONCE)
            known = self._known[users]
            longest = max(map(len, known))
            excluded = [[*self.catalogue.item_ids[r], *[""] * (longest - len(r))] for r in known]
            inputs = {n: tf.constant(v[users], specs[n].dtype) for n, v in raw.items()}
            answer = signature(
                **inputs,
                exclude_ids=tf.constant(excluded, tf.string),
                policy_key=tf.fill([len(known)], ""),
                control_groups=tf.zeros([len(known), 0], tf.string),
                control_weights=tf.zeros([len(known), 0]),
            )["candidate_ids"].numpy()
            lists[users] = [[self._row_of[i.decode()] for i in ids] for ids in answer]
        return lists

    def constant_bonus(self) -> np.ndarray:
        """The lists under the prices that bring exactly these users' lists to the target."""
        queries = ExportedTower(self._tower).embed(self.users)
        scores = queries @ self.catalogue.vectors.T
        for user, rows in enumerate(self._known):
            scores[user, rows] = -np.inf
        codes = np.broadcast_to(self._targets.codes, scores.shape)
        best = []
        for group in range(len(self._shares)):
            of_group = np.flatnonzero(self._targets.codes == group)
            order = np.argsort(-scores[:, of_group], axis=1, kind="stable")[:, :K]
            best.append(of_group[order])
        candidates = np.hstack(best)
        of_candidates = np.take_along_axis(scores, candidates, axis=1)
        prices = starting_prices(
            of_candidates, np.take_along_axis(codes, candidates, axis=1), self._shares, K
        )
        steered = of_candidates + prices[self._targets.codes[candidates]]
        order = np.argsort(-steered, axis=1, kind="stable")[:, :K]
        return np.take_along_axis(candidates, order, axis=1)

    def ratios(self, lists: np.ndarray) -> np.ndarray:
        """Exposure ratios of the groups that have a target."""
        exposure = list_exposure(lists, self._membership, dcg_weights(K)).sum(axis=0)
        return exposure_ratio(exposure, self._shares)[self._shares > 0]

    def along(self, index: str, lists: np.ndarray) -> list[str]:
        """Rows of a table: ratios since the start and in the last window."""
        lines = []
        for end in range(1000, len(lists) + 1, 1000):
            window = _as_text(self.ratios(lists[end - WINDOW : end])) if end >= WINDOW else ""
            lines.append(
                f"| {index}, {end} lists | {_as_text(self.ratios(lists[:end]))} | {window} |"
            )
        return lines

    def ndcg(self, lists: np.ndarray) -> float:
        """Mean NDCG@k of the lists against what users chose in the test part."""
        hits = np.stack([np.isin(*pair) for pair in zip(lists, self._chosen, strict=True)])
        return float(ndcg_at_k(hits, np.array([len(rows) for rows in self._chosen]), K).mean())

    def _rows_per_user(self, pairs: pa.Table, item_ids: pa.Array) -> list[np.ndarray]:
        """Rows of the catalogue that every user of the stream has in some pairs."""
        user = pc.index_in(
            pairs["user_id"].combine_chunks(), value_set=self.users["user_id"].combine_chunks()
        )
        is_known = pc.is_valid(user)
        of_user = user.filter(is_known).to_numpy()
        rows = pc.index_in(pairs["item_id"].combine_chunks(), value_set=item_ids).filter(is_known)
        order = np.argsort(of_user, kind="stable")
        ends = np.cumsum(np.bincount(of_user, minlength=len(self.users)))
        return [np.unique(r) for r in np.split(rows.to_numpy()[order], ends[:-1])]


def _as_text(ratios: np.ndarray) -> str:
    return " ".join(f"{ratio:.3f}" for ratio in ratios)


if __name__ == "__main__":
    main()
