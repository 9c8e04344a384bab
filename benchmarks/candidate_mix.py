"""Quotas over a large catalogue: the strategies side by side, and the graph beside NumPy.

    python -m benchmarks.candidate_mix [--items 1000000] [--queries 500] [--rounds 5]

Lists of 100 with targets of 60, 25, 10 and 5 %, from vectors in clusters that belong to groups, so
that the best hundred candidates of a query are mostly of one group. All is timed in one process on
one thread, a query at a time, all queries of a round before the next way: each strategy as a server
asks the exported graph, in a session; over-fetching 1,000 and 5,000 candidates once and for all,
where what does not fill the quotas is filled with others; and `bucketized` once more with ScaNN's
Python interface and NumPy around it.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.config import TargetConfig
from serving.catalogue import Catalogue
from serving.config import ServingConfig
from serving.index import build_index, load_index
from serving.mix.assembly import BUCKETS_FOLDER, assemble
from serving.mix.buckets import build_buckets
from serving.mix.mix import CandidateMix
from serving.mix.pools import Wanted
from serving.mix.strategies import short_groups
from serving.mix.targets import resolve_targets
from serving.search import Search

TARGET = {"a": 0.60, "b": 0.25, "c": 0.10, "d": 0.05}
DIM, CLUSTERS, K = 64, 1000, 100
MIN_RECALL = 0.95


def main() -> None:
    """Prints recall, filled lists and time of every strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    vectors, labels, queries = clustered(options.items, options.queries)
    with tempfile.TemporaryDirectory() as folder:
        bench = Benchmark(vectors, labels, queries, pathlib.Path(folder))
        bench.run(options.rounds)


def clustered(
    num_items: int, num_queries: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors in clusters, their groups, nine in ten the cluster's own, and queries alike."""
    rng = np.random.default_rng(12)
    centres = rng.normal(size=(CLUSTERS, DIM)).astype(np.float32)
    names, shares = list(TARGET), list(TARGET.values())
    of_cluster = rng.choice(names, CLUSTERS, p=shares)
    rng = np.random.default_rng(seed)

    def draw(num: int) -> tuple[np.ndarray, np.ndarray]:
        cluster = rng.integers(0, CLUSTERS, num)
        points = centres[cluster] + 0.6 * rng.normal(size=(num, DIM)).astype(np.float32)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points.astype(np.float32), cluster

    vectors, cluster = draw(num_items)
    keeps = rng.random(num_items) < 0.9
    labels = np.where(keeps, of_cluster[cluster], rng.choice(names, num_items, p=shares))
    return vectors, labels.astype(object), draw(num_queries)[0]


class Benchmark:
    """Everything that is compared, over one catalogue."""

    def __init__(
        self, vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray, folder: pathlib.Path
    ) -> None:
        self._queries, self._folder = queries, folder
        self._catalogue = Catalogue(vectors, np.arange(len(vectors)).astype(str), labels)
        self._config = ServingConfig(k=K, index="scann", policy={"kind": "quota", "tolerance": 0})
        target = TargetConfig(kind="explicit", shares=TARGET)
        self._targets = resolve_targets(labels, self._config.policy, target)
        self._codes = self._targets.codes
        self._quota = np.array([round(K * TARGET[g]) for g in self._targets.labels])
        self._exact = self._exact_lists()
        start = time.perf_counter()
        build_index(vectors, labels, self._config, folder, 0, query_vectors=queries[:50])
        self._search, _ = load_index(folder, vectors)
        print(f"one index: {time.perf_counter() - start:.0f} s", flush=True)
        # Settings are found with other queries than those that are timed.
        others = clustered(1, 1000, seed=1)[2]
        start = time.perf_counter()
        self._buckets = build_buckets(
            vectors,
            self._codes,
            dict(enumerate(self._quota.tolist())),
            others,
            MIN_RECALL,
            folder / BUCKETS_FOLDER,
        )
        print(f"buckets: {time.perf_counter() - start:.0f} s")
        short = short_groups(self._search, self._targets, queries, 10 * K, self._exact)
        self._short = {g: b for g, b in self._buckets.items() if int(g) in short}
        for group, bucket in self._buckets.items():
            print(f"{self._targets.labels[int(group)]}: {bucket}", flush=True)

    def run(self, rounds: int) -> None:
        """Measures all and prints the table."""
        ways = {
            "bucketized": self._graph("bucketized", self._buckets),
            "hybrid": self._graph("hybrid", self._short),
            "over-fetch 1,000, more if short": self._graph("over_fetch", {}),
            "over-fetch 1,000": self._once(1000),
            "over-fetch 5,000": self._once(5000),
            "bucketized, NumPy around pybind": self._around_pybind(),
        }
        rows = {name: np.stack([ask(q) for q in self._queries]) for name, ask in ways.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, ask in ways.items():
                for query in self._queries:
                    start = time.perf_counter()
                    ask(query)
                    seconds[name].append(time.perf_counter() - start)
        groups = " ".join(self._targets.labels)
        print(f"\n| | quotas filled | recall of {groups} | p50, ms | p99, ms |")
        print("|---|---|---|---|---|")
        for name, found in rows.items():
            filled, recall = self._quality(found)
            p50, p99 = 1e3 * np.percentile(seconds[name], [50, 99])
            of_groups = " ".join(f"{r:.3f}" for r in recall)
            print(f"| {name} | {filled:.1%} | {of_groups} | {p50:.2f} | {p99:.2f} |")
        middle = {name: np.median(values) for name, values in seconds.items()}
        own = middle["bucketized"]
        print(f"\nbucketized over over-fetching 5,000: {own / middle['over-fetch 5,000']:.2f}")
        print(f"graph over pybind: {own / middle['bucketized, NumPy around pybind']:.2f}")

    def _graph(self, strategy: str, buckets: dict[str, Any]) -> Callable:
        plan = {"strategy": strategy, "buckets": buckets}
        mix = assemble(
            self._config.policy,
            self._targets,
            self._search,
            self._catalogue,
            K,
            plan,
            self._folder,
        )
        return _asked(mix)

    def _once(self, depth: int) -> Callable:
        pool = OncePool(self._search, min(depth, len(self._codes)))
        return _asked(CandidateMix(self._config.policy, self._targets, self._search, pool, K))

    def _around_pybind(self) -> Callable:
        """The same buckets with the same settings; the quotas leave nothing to choose."""
        parts = [self._pybind(int(group), b) for group, b in sorted(self._buckets.items())]

        def ask(query: np.ndarray) -> np.ndarray:
            found = [search(query) for search in parts]
            rows = np.concatenate([rows for rows, _ in found])
            scores = np.concatenate([scores for _, scores in found])
            return rows[np.lexsort((rows, -scores))]

        return ask

    def _pybind(self, group: int, bucket: dict[str, Any]) -> Callable:
        from scann import scann_ops_pybind

        rows = np.flatnonzero(self._codes == group)
        vectors, quota = self._catalogue.vectors[rows], int(self._quota[group])
        settings = bucket["settings"]
        if bucket["kind"] == "exact":

            def compare(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                scores = vectors @ query
                best = np.argpartition(-scores, quota - 1)[:quota]
                return rows[best], scores[best]

            return compare
        builder = scann_ops_pybind.builder(vectors, quota, "dot_product")
        if bucket["kind"] == "tree":
            builder = builder.tree(
                settings["leaves"],
                settings["leaves_to_search"],
                training_sample_size=max(100_000, 50 * settings["leaves"]),
                min_partition_size=10,
                random_init=False,
            )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        searcher = builder.reorder(settings["reorder"]).build()
        limits = {"final_num_neighbors": quota, "pre_reorder_num_neighbors": settings["reorder"]}
        if bucket["kind"] == "tree":
            limits["leaves_to_search"] = settings["leaves_to_search"]

        def search(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found, scores = searcher.search(query, **limits)
            return rows[found], scores

        return search

    def _exact_lists(self) -> np.ndarray:
        lists = []
        for query in self._queries:
            scores = self._catalogue.vectors @ query
            chosen = []
            for group, quota in enumerate(self._quota):
                of_group = np.flatnonzero(self._codes == group)
                best = np.argpartition(-scores[of_group], quota - 1)[:quota]
                chosen.append(of_group[best])
            lists.append(np.concatenate(chosen))
        return np.stack(lists)

    def _quality(self, found: np.ndarray) -> tuple[float, list[float]]:
        """Share of the lists with the wanted counts, and recall of the exact lists per group."""
        groups = range(len(self._quota))
        of_found, of_exact = self._codes[found], self._codes[self._exact]
        counts = np.stack([(of_found == g).sum(axis=1) for g in groups], axis=1)
        query = np.arange(len(found))[:, None] * len(self._codes)
        hit = np.isin(query + self._exact, query + found)
        filled = (counts == self._quota).all(axis=1).mean()
        return float(filled), [float(hit[of_exact == g].mean()) for g in groups]


class OncePool(tf.Module):
    """The first candidates of one index, whether they fill the quotas or not."""

    def __init__(self, search: Search, depth: int) -> None:
        super().__init__()
        self._search, self._depth = search, depth

    def __call__(self, queries: tf.Tensor, wanted: Wanted) -> tuple[tf.Tensor, tf.Tensor]:
        """See `serving.mix.pools.Pool`."""
        return self._search(queries, self._depth, wanted.excluded)


def _asked(mix: CandidateMix) -> Callable[[np.ndarray], np.ndarray]:
    module = tf.Module()
    module.mix = mix
    ask = tf.function(
        lambda queries: {"rows": mix.by_policy(queries)[0]},
        input_signature=[tf.TensorSpec([None, DIM], tf.float32, name="queries")],
    )
    # Negative: in the thread of the caller, as NumPy is.
    threads = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=-1
    )
    session = tf.compat.v1.Session(graph=tf.Graph(), config=threads)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=ask)
        with session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    rows = session.make_callable(
        signature.outputs["rows"].name, feed_list=[signature.inputs["queries"].name]
    )
    return lambda query: rows(query[None])[0]


if __name__ == "__main__":
    main()
