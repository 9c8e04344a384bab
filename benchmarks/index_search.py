r"""The ScaNN index beside hnswlib, faiss and the ScaNN layer of TensorFlow Recommenders.

    pip install -e '.[benchmarks]'
    python -m benchmarks.index_search
    python -m benchmarks.index_search --run runs/ml1m

One thread searches, all threads build. Every library is brought to the recall on one sample of the
queries and measured on another, single queries in turns. ScaNN's own time is that of its Python
bindings, with the settings that `serving.index` chose; the exported SavedModel is asked in batches,
as a server with batching asks it. With `--run`, items and users are those of a model that
`fairtowers run` has trained, repeated with noise of a tenth of their spread.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

# Read when the libraries are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import hnswlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.timing import in_turns, print_rates
from benchmarks.vectors import clustered, repeated
from serving.catalogue import load_catalogue
from serving.config import ServingConfig
from serving.export import write_version
from serving.index import build_index
from serving.query_batches import search_all
from serving.retriever import load_retriever
from serving.scann_index import configure
from serving.search import ExactSearch
from towers.exported_tower import ExportedTower

K = 100
BATCH = 64
NUM_TRIED = 1000
NUM_TIMED = 1000
ROUNDS = 5
MOST_SEARCHED = 2000

Single = Callable[[np.ndarray], np.ndarray]
"""A query `[dim]` to the rows of its list."""


def main() -> None:
    """Prints recall, latency and build time of each, and the SavedModel's throughput."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64, help="of synthetic vectors")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--run", type=pathlib.Path, help="folder of a finished run")
    parser.add_argument("--variant", default="without_regularizer", help="of the run")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if arguments.run:
        vectors, queries, groups = _of_run(arguments.run, arguments.variant, arguments.items)
    else:
        vectors, queries = clustered(arguments.items, NUM_TRIED + NUM_TIMED, arguments.dim)
        groups = np.full(len(vectors), "all")
    print(f"{len(vectors):,} vectors of dimension {vectors.shape[1]}, lists of {K}\n")
    with tempfile.TemporaryDirectory() as folder:
        _compare(vectors, queries, groups, arguments.recall, pathlib.Path(folder))


def _of_run(
    run: pathlib.Path, variant: str, num_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of items and of users in a random order, and the items' groups."""
    catalogue = load_catalogue(run / variant / "embeddings")
    users = pq.read_table(run / "examples" / "users.parquet")
    queries = ExportedTower(run / variant / "model" / "query_tower").embed(users)
    rng = np.random.default_rng(0)
    return (
        repeated(catalogue.vectors, num_items, rng),
        repeated(rng.permutation(queries), NUM_TRIED + NUM_TIMED, rng),
        np.resize(catalogue.groups, num_items),
    )


def _compare(
    vectors: np.ndarray,
    queries: np.ndarray,
    groups: np.ndarray,
    target: float,
    folder: pathlib.Path,
) -> None:
    tried, timed = queries[:NUM_TRIED], queries[NUM_TRIED:]
    report = build_index(
        vectors,
        groups,
        ServingConfig(index="scann", k=K, recall_target=target),
        folder / "index",
        seed=0,
        query_vectors=tried,
    )
    settings = report["settings"]
    print(f"fairtowers' settings: {settings}\n")
    _print_groups(report["groups"])
    by_all = ExactSearch(vectors)
    exact_tried, exact = (search_all(by_all, part, K) for part in (tried, timed))
    raw, raw_seconds = _timed_build(lambda: _raw_scann(vectors, settings))
    searches: dict[str, Single] = {"ScaNN, as tuned": lambda query: raw.search(query)[0]}
    builds = {"ScaNN, as tuned": raw_seconds}
    for name, build in (("hnswlib", _hnswlib), ("faiss IVFFlat", _faiss)):
        (search, said), seconds = _timed_build(lambda b=build: b(vectors))
        name = f"{name} ({_reach(search, said, tried, exact_tried, target)})"
        searches[name], builds[name] = search, seconds
    _print_single(searches, builds, timed, exact)
    _print_layer(vectors, settings, raw, timed, exact)
    _print_batches(vectors, folder, raw, timed)


def _timed_build(build: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    built = build()
    return built, time.perf_counter() - start


def _raw_scann(vectors: np.ndarray, settings: dict[str, int]) -> Any:
    from scann.scann_ops.py import scann_ops_pybind

    return configure(scann_ops_pybind.builder(vectors, K, "dot_product"), settings).build()


Tunable = tuple[Single, dict[str, Callable[[int], None]]]
"""A search, and what sets its one setting, by name."""


def _hnswlib(vectors: np.ndarray) -> Tunable:
    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=16, random_seed=0)
    index.add_items(vectors)
    index.set_num_threads(1)

    def search(query: np.ndarray) -> np.ndarray:
        try:
            return index.knn_query(query, K)[0][0]
        except RuntimeError:  # It has found fewer than K.
            return np.zeros(0, np.int64)

    return search, {"ef": index.set_ef}


def _faiss(vectors: np.ndarray) -> Tunable:
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    lists = round(2 * len(vectors) ** 0.5)
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.omp_set_num_threads(1)

    def set_probes(number: int) -> None:
        index.nprobe = number

    return lambda query: index.search(query[None], K)[1][0], {"nprobe": set_probes}


def _reach(
    search: Single,
    knobs: dict[str, Callable[[int], None]],
    queries: np.ndarray,
    exact: np.ndarray,
    target: float,
) -> str:
    """Sets the least value, by steps of a tenth, that reaches the recall, and names it."""
    (name, set_value), value = next(iter(knobs.items())), 1 if "nprobe" in knobs else K
    while True:
        set_value(value)
        if _recall(search, queries, exact) >= target:
            return f"{name} {value}"
        if value >= MOST_SEARCHED:
            return f"{name} {value}, which misses the recall"
        value = min(max(value + 1, round(value * 1.1)), MOST_SEARCHED)


def _recall(search: Single, queries: np.ndarray, exact: np.ndarray) -> float:
    hits = [np.isin(e, search(query)).mean() for query, e in zip(queries, exact, strict=True)]
    return float(np.mean(hits))


def _print_groups(groups: dict[str, Any]) -> None:
    """Prints what the index costs each group, on queries that no setting was tried on."""
    print("| group | places | recall | share, exact | share, index | change |")
    print("|---|---|---|---|---|---|")
    for label, group in groups.items():
        recall, share = group["recall"], group["share"]
        if recall:
            change = share["change"]
            print(
                f"| {label} | {recall['count']:,} | {recall['value']:.4f} ({recall['low']:.4f}–"
                f"{recall['high']:.4f}) | {share['exact']:.3%} | {share['found']:.3%} | "
                f"{change['value']:+.2%} ({change['low']:+.2%} to {change['high']:+.2%}) |"
            )
    print()


def _print_single(
    searches: dict[str, Single], builds: dict[str, float], queries: np.ndarray, exact: np.ndarray
) -> None:
    medians: dict[str, list[float]] = {name: [] for name in searches}

    def ask(name: str) -> None:
        milliseconds = []
        for query in queries:
            start = time.perf_counter()
            searches[name](query)
            milliseconds.append((time.perf_counter() - start) * 1000)
        medians[name].append(float(np.median(milliseconds)))

    in_turns({name: lambda n=name: ask(n) for name in searches}, ROUNDS)
    own = next(iter(searches))
    print("| | recall | p50, ms | ScaNN’s p50 to it | build, s | ScaNN’s build to it |")
    print("|---|---|---|---|---|---|")
    for name, search in searches.items():
        p50 = np.array(medians[name][1:])
        ratios = np.array(medians[own][1:]) / p50
        print(
            f"| {name} | {_recall(search, queries, exact):.4f} | {np.median(p50):.4f} | "
            f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f}) | "
            f"{builds[name]:.1f} | {builds[own] / builds[name]:.2f} |"
        )


def _print_layer(
    vectors: np.ndarray, settings: dict[str, int], raw: Any, queries: np.ndarray, exact: np.ndarray
) -> None:
    """Prints recall beside the layer's, at the same leaves, with ever fewer reordered."""
    print("\n| reordered | recall | of the layer of tfrs | more |\n|---|---|---|---|")
    for reorder in dict.fromkeys((settings["reorder"], round(1.25 * K), K)):
        layer = tfrs.layers.factorized_top_k.ScaNN(
            k=K,
            num_leaves=settings["leaves"],
            num_leaves_to_search=settings["leaves_to_search"],
            num_reordering_candidates=reorder,
        ).index(tf.constant(vectors))
        found = layer(tf.constant(queries))[1].numpy()
        theirs = np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)])
        ours = _recall(lambda query, r=reorder: raw.search(query, K, r)[0], queries, exact)
        print(f"| {reorder} | {ours:.4f} | {theirs:.4f} | {ours - theirs:+.4f} |")


class _VectorTower(tf.Module):
    """A query tower that has nothing to compute."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        spec = tf.TensorSpec([None, dim], tf.float32, name="vector")
        self.serve = tf.function(lambda vector: {"embedding": vector}, input_signature=[spec])


def _print_batches(
    vectors: np.ndarray, folder: pathlib.Path, raw: Any, queries: np.ndarray
) -> None:
    """Prints the throughput of the SavedModel beside that of ScaNN's bindings.

    Once alone, and once with NumPy looking up what the SavedModel answers besides scores.
    """
    retriever = load_retriever(_exported(vectors, folder, queries[:8]))
    serve = retriever.signatures["serving_default"]
    batches = np.split(queries, range(BATCH, len(queries), BATCH))

    def through_model() -> None:
        for batch in batches:
            serve(vector=tf.constant(batch))

    def through_bindings() -> None:
        for batch in batches:
            raw.search_batched(batch)

    ids = np.arange(len(vectors)).astype(bytes)
    groups, names = np.zeros(len(vectors), np.int32), np.array([b"all"])

    def with_names() -> None:
        for batch in batches:
            rows, _ = raw.search_batched(batch)
            ids[rows], names[groups[rows]]

    measured = {
        "SavedModel": through_model,
        "ScaNN’s bindings": through_bindings,
        "the same, with ids and groups": with_names,
    }
    seconds = in_turns(measured, ROUNDS)
    print(f"\nBatches of {BATCH}:\n")
    print_rates({n: len(queries) / s for n, s in seconds.items()}, "queries a second", digits=2)


def _exported(vectors: np.ndarray, folder: pathlib.Path, warmup: np.ndarray) -> pathlib.Path:
    embeddings = folder / "embeddings"
    embeddings.mkdir()
    np.save(embeddings / "vectors.npy", vectors)
    ids = [str(row) for row in range(len(vectors))]
    items = pa.table({"item_id": ids, "group": ["all"] * len(ids)})
    pq.write_table(items, embeddings / "items.parquet")
    tower = _VectorTower(vectors.shape[1])
    tower_dir, version_dir = folder / "tower", folder / "1"
    tf.saved_model.save(tower, str(tower_dir), signatures={"serving_default": tower.serve})
    write_version(
        tower_dir,
        embeddings,
        folder / "index",
        ServingConfig(k=K),
        version_dir,
        version=1,
        provenance={},
        warmup_features={"vector": warmup},
    )
    return version_dir


if __name__ == "__main__":
    main()
