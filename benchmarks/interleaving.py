"""How many requests it takes to see which of two retrievers is better: interleaving beside A/B.

    python -m benchmarks.interleaving [--requests 200000] [--experiments 2000] [--seed 1]

On the synthetic marketplace, whose truth is known: two-tower retrievers trained on the whole log
and on parts of it, lists of 20, users who look at a rank with the attention of DCG and click what
is relevant to them. Needed are the requests with which a two-sided test at 5 % finds the better one
in 80 % of the experiments: for A/B in both arms together, Welch's test of clicks per list, also
after CUPED with what the same user clicked on an earlier list; for interleaving the sign test of
`serving.experiments.interleaving.preference`. Experiments are drawn from a pool of simulated
requests, each by a user at random.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import binomtest, ttest_ind_from_stats

from benchmarks.retrievers import Retrievers, train_retrievers
from fairness_losses.browsing import dcg_weights
from serving.experiments.interleaving import credit, interleave, interleave_all, preference

K = 20
SHARES = [1.0, 0.8, 0.6, 0.4]
LEVEL, POWER = 0.05, 0.8
_MOST = 10**9

Power = Callable[[int], float]
"""Share of experiments with so many requests that find the better retriever."""


def main() -> None:
    """Prints the requests that each way needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    retrievers = train_retrievers(SHARES, options.seed)
    rng = np.random.default_rng(options.seed)
    print(
        "| of the log | clicks per list | change | interleaving prefers the better one by |", end=""
    )
    print(" A/B | A/B, CUPED | interleaving | of A/B | of CUPED |")
    print("|---|---|---|---|---|---|---|---|---|")
    lists = {share: retrievers.lists(share, K) for share in SHARES}
    clicks = {share: float(retrievers.clicks_per_list(lists[share]).mean()) for share in SHARES}
    for pair in itertools.pairwise(SHARES):
        worse, better = sorted(pair, key=clicks.__getitem__)
        chosen = (lists[worse], lists[better])
        credits, plain, adjusted = simulate(retrievers, *chosen, options.requests, rng)
        found = preference(credits)
        needed = [
            requests_needed(power)
            for power in (
                functools.partial(ab_power, plain, options.experiments, rng),
                functools.partial(ab_power, adjusted, options.experiments, rng),
                functools.partial(sign_power, credits, options.experiments, rng),
            )
        ]
        print(
            f"| {worse:.0%} and {better:.0%} | {clicks[worse]:.3f} and {clicks[better]:.3f} "
            f"| {clicks[better] / clicks[worse] - 1:+.1%} "
            f"| {found.value:.3f} ({found.low:.3f}–{found.high:.3f}) "
            f"| {needed[0]:,} | {needed[1]:,} | {needed[2]:,} "
            f"| 1/{needed[0] / needed[2]:.0f} | 1/{needed[1] / needed[2]:.0f} |",
            flush=True,
        )
    print_speed(lists[SHARES[0]], lists[SHARES[-1]])


Arms = tuple[np.ndarray, np.ndarray]
"""What requests of each arm came to, `[num_requests]` each."""


def simulate(
    retrievers: Retrievers,
    lists_a: np.ndarray,
    lists_b: np.ndarray,
    num: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Arms, Arms]:
    """Simulates requests of users at random.

    Returns:
        Credits of interleaving, `[num, 2]`; clicks in an A/B test; and these after CUPED.
    """
    users = rng.integers(len(lists_a), size=num)
    ids = [str(number) for number in range(num)]
    drawn = interleave_all(lists_a[users], lists_b[users], K, ids, "benchmark")
    credits = credit(drawn.teams, clicked(retrievers, users, drawn.items, rng))
    clicks_a, clicks_b, earlier = (
        clicked(retrievers, users, lists[users], rng).sum(axis=1)
        for lists in (lists_a, lists_b, lists_a)
    )
    clicks, before = np.concatenate([clicks_a, clicks_b]), np.tile(earlier, 2)
    theta = np.cov(clicks, before)[0, 1] / before.var(ddof=1)
    shift = theta * (earlier - earlier.mean())
    return credits, (clicks_a, clicks_b), (clicks_a - shift, clicks_b - shift)


def clicked(
    retrievers: Retrievers, users: np.ndarray, lists: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns clicks on lists, bool `[num_lists, K]`."""
    chances = retrievers.liking(users, lists) * dcg_weights(K)
    return rng.random(lists.shape) < chances


def ab_power(arms: Arms, experiments: int, rng: np.random.Generator, num: int) -> float:
    """See `Power`; half of the requests in each arm, of which B is the better one."""
    moments = []
    for values in arms:
        # Clicks take few values, so a sample is drawn as how often it has each of them.
        found, counts = np.unique(values, return_counts=True)
        drawn = rng.multinomial(num // 2, counts / counts.sum(), size=experiments)
        mean = drawn @ found / (num // 2)
        variance = (drawn @ found**2 / (num // 2) - mean**2) * (num // 2) / (num // 2 - 1)
        moments += [mean, np.sqrt(np.maximum(variance, 0)), num // 2]
    test = ttest_ind_from_stats(*moments, equal_var=False)
    return float(((test.pvalue < LEVEL) & (test.statistic < 0)).mean())


def sign_power(credits: np.ndarray, experiments: int, rng: np.random.Generator, num: int) -> float:
    """See `Power`; B is the better one."""
    sign = np.sign(credits[:, 1] - credits[:, 0])
    chances = [(sign < 0).mean(), (sign > 0).mean()]
    wins_a, wins_b, _ = rng.multinomial(num, [*chances, 1 - sum(chances)], size=experiments).T
    pairs = zip(wins_a.tolist(), wins_b.tolist(), strict=True)
    return float(np.mean([b > a and _p_value(b, a + b) < LEVEL for a, b in pairs]))


@functools.lru_cache(maxsize=1 << 18)
def _p_value(wins: int, decided: int) -> float:
    return float(binomtest(wins, decided).pvalue)


def requests_needed(power: Power) -> int:
    """Returns the least number of requests with enough power, within 1 %."""
    low, high = 10, 20
    while power(high) < POWER:
        if high > _MOST:
            raise SystemExit("the two are too much alike: give another --seed.")
        low, high = high, high * 2
    while high > low * 1.01 + 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def print_speed(lists_a: np.ndarray, lists_b: np.ndarray) -> None:
    """Prints the time of one list, drawn alone and with many others."""
    ids = [str(number) for number in range(len(lists_a))]
    start = time.perf_counter()
    interleave_all(lists_a, lists_b, K, ids, "speed")
    together = (time.perf_counter() - start) / len(ids)
    pairs = list(zip(lists_a.tolist(), lists_b.tolist(), ids, strict=True))
    start = time.perf_counter()
    for a, b, request_id in pairs:
        interleave(a, b, K, request_id, "speed")
    alone = (time.perf_counter() - start) / len(ids)
    print(f"\nA list of {K}: {alone * 1e6:.1f} μs alone, {together * 1e6:.1f} μs with many others.")


if __name__ == "__main__":
    main()
