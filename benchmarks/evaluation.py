r"""Exact evaluation beside `tfrs.metrics.FactorizedTopK`.

    python -m benchmarks.evaluation

Every user's best 100 of all items, and whether the user's held-out item is among them; ours also
gives NDCG, and leaves out what a user had chosen before. The peer streams candidates in blocks, of
128 as in its tutorials or of 4,096, or searches all of them by brute force; it is timed on a part
of the users, and the rate is compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.timing import in_turns, print_rates
from towers.evaluation import HeldOut, Positives, evaluate

KS = (1, 5, 10, 50, 100)
SEEN = 20
BATCH = 1024
PEERS = {
    "FactorizedTopK, blocks of 128": 128,
    "FactorizedTopK, blocks of 4,096": 4096,
    "FactorizedTopK, brute force": None,
}
"""Sizes of the blocks."""


def main() -> None:
    """Prints users per second of each, and the recall that each finds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--peer-users", type=int, default=4096, help="users the peer is timed on")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    candidate = rng.standard_normal((arguments.items, arguments.dim), np.float32)
    wanted = rng.integers(0, arguments.items, arguments.users)
    # A query that lies near what it wants, so that recall is neither 0 nor 1.
    noise = rng.standard_normal((arguments.users, arguments.dim), np.float32)
    query = 0.35 * candidate[wanted] + noise
    some = arguments.peer_users
    recall: dict[str, float] = {}
    peer = (query[:some], candidate, wanted[:some], recall)
    measured = {
        "fairtowers": (_ours(query, candidate, wanted, recall), len(query)),
        **{name: (_theirs(name, block, *peer), some) for name, block in PEERS.items()},
    }
    calls = {name: call for name, (call, _) in measured.items()}
    seconds = in_turns(calls, arguments.rounds)
    rates = {name: measured[name][1] / values for name, values in seconds.items()}
    cells = {name: f"{value:.4f}" for name, value in recall.items()}
    print_rates(rates, "users a second", digits=1, last=("recall@100", cells))
    total = np.median(seconds["fairtowers"])
    print(f"\n{arguments.users:,} users against {arguments.items:,} items: {total:.1f} s")


def _ours(
    query: np.ndarray, candidate: np.ndarray, wanted: np.ndarray, recall: dict[str, float]
) -> Callable[[], None]:
    users = np.arange(len(query))
    rng = np.random.default_rng(1)
    seen = rng.integers(0, len(candidate), (len(query), SEEN))
    seen = np.where(seen == wanted[:, None], (seen + 1) % len(candidate), seen)
    held_out = HeldOut(
        columns={},
        slices={},
        relevant=Positives.from_pairs(users, wanted, len(query)),
        seen=Positives.from_pairs(np.repeat(users, SEEN), seen.ravel(), len(query)),
    )

    def measure() -> None:
        recall["fairtowers"] = evaluate(query, candidate, held_out, KS)["recall@100"]

    return measure


def _theirs(
    name: str,
    block: int | None,
    query: np.ndarray,
    candidate: np.ndarray,
    wanted: np.ndarray,
    recall: dict[str, float],
) -> Callable[[], None]:
    layers = tfrs.layers.factorized_top_k
    if block:
        blocks = tf.data.Dataset.from_tensor_slices(candidate).batch(block)
        search = layers.Streaming(k=max(KS)).index_from_dataset(blocks)
    else:
        search = layers.BruteForce(k=max(KS)).index(candidate)

    metric = tfrs.metrics.FactorizedTopK(search, ks=KS)

    @tf.function
    def update(queries: tf.Tensor, positives: tf.Tensor) -> None:
        metric.update_state(queries, positives)

    def measure() -> None:
        metric.reset_states()
        for start in range(0, len(query), BATCH):
            rows = slice(start, start + BATCH)
            update(query[rows], candidate[wanted[rows]])
        recall[name] = float(metric.result()[-1])

    return measure


if __name__ == "__main__":
    main()
