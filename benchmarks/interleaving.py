"""How many users it takes to see which of two retrievers is better: interleaving beside A/B.

    python -m benchmarks.interleaving [--users 20000] [--seed 1]

On the synthetic marketplace, whose truth is known: two-tower retrievers trained on the whole log
and on parts of it, lists of 20. Users ask once each, or ten times on average, some far more often
than others. They look at a rank with the attention of DCG, all alike, or with a patience of their
own (the attention of rank-biased precision), and click what is relevant to them.

Needed are the users with which a two-sided test at 5 % finds the better retriever in 80 % of the
experiments: for A/B in both arms together, by the usual formula for clicks per user, also after
CUPED with the user's clicks in an earlier period of the same length; for interleaving by that of
the sign test over users, `serving.experiments.interleaving.preference`. Moments are those of a pool
of simulated users. Behind each number stands in how many of 1000 experiments with so many users of
the pool the test did find it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import time

import numpy as np
from scipy.stats import binomtest, norm, ttest_ind

from benchmarks.retrievers import Retrievers, train_retrievers
from fairness_losses.browsing import dcg_weights
from serving.experiments.interleaving import credit, interleave, interleave_all

K = 20
SHARES = [1.0, 0.8, 0.6, 0.4]
LEVEL, POWER = 0.05, 0.8
TEN = 10
"""Requests of a user on average, where there are many; as many more users where there are not."""

EXPERIMENTS, AT_ONCE = 1000, 1 << 22
QUANTILES = norm.ppf(1 - LEVEL / 2), norm.ppf(POWER)


@dataclasses.dataclass(frozen=True)
class Users:
    """How users behave.

    Attributes:
        attention: Probability of looking at each rank, `[num_users, K]`.
        requests: Mean number of requests of each, `[num_users]`; 0 for exactly one.
    """

    attention: np.ndarray
    requests: np.ndarray

    def number(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws how often users ask in a period, at least once."""
        return np.maximum(1, rng.poisson(self.requests[users]))

    def clicks(
        self, retrievers: Retrievers, users: np.ndarray, lists: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws clicks on lists, bool `[num_lists, K]`."""
        chances = retrievers.liking(users, lists) * self.attention[users]
        return rng.random(lists.shape) < chances


def main() -> None:
    """Prints the users that each way needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    retrievers = train_retrievers(SHARES, options.seed)
    rng = np.random.default_rng(options.seed)
    lists = {share: retrievers.lists(share, K) for share in SHARES}
    print("| requests | look | of the log | clicks per list | ", end="")
    print("A/B | A/B, CUPED | interleaving | of A/B | of CUPED |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (often, look), behaviour in behaviours(len(retrievers.relevance), rng).items():
        for pair in itertools.pairwise(SHARES):
            worse, better = (lists[share] for share in reversed(pair))
            num = options.users * (TEN if often == "one" else 1)
            pool = Pool(retrievers, behaviour, worse, better, num, rng)
            plain, adjusted, signs = pool.ab(), pool.ab_after_cuped(), pool.interleaving()
            mean = pool.expected()
            print(
                f"| {often} | {look} | {pair[1]:.0%} and {pair[0]:.0%} "
                f"| {mean[0]:.2f} and {mean[1]:.2f} ({mean[1] / mean[0] - 1:+.1%}) "
                f"| {_cell(plain)} | {_cell(adjusted)} | {_cell(signs)} "
                f"| 1/{plain[0] / signs[0]:.1f} | 1/{adjusted[0] / signs[0]:.1f} |",
                flush=True,
            )
    print_speed(lists[SHARES[0]], lists[SHARES[-1]])


def behaviours(num: int, rng: np.random.Generator) -> dict[tuple[str, str], Users]:
    """Users who ask once or often, and look alike or not."""
    alike = np.tile(dcg_weights(K), (num, 1))
    own = rng.beta(2, 1, size=(num, 1)) ** np.arange(K)
    activity = rng.lognormal(sigma=0.9, size=num)
    often = TEN * activity / activity.mean()
    looks = {"alike": alike, "patience of their own": own}
    return {
        (name, look): Users(attention, requests)
        for name, requests in (("one", np.zeros(num)), ("ten", often))
        for look, attention in looks.items()
    }


Needed = tuple[int, float]
"""Users, and the share of experiments with so many that find the better retriever."""


class Pool:
    """Users with what they click under either retriever, and under both interleaved.

    Args:
        retrievers: The truth.
        behaviour: Of the users.
        worse: Lists of the retriever called A, `[num_users, K]`.
        better: Of that called B.
        num: Users of the pool, drawn with replacement.
        rng: Of everything.
    """

    def __init__(
        self,
        retrievers: Retrievers,
        behaviour: Users,
        worse: np.ndarray,
        better: np.ndarray,
        num: int,
        rng: np.random.Generator,
    ) -> None:
        self._rng = rng
        self._lists = (worse, better)
        who = rng.integers(len(worse), size=num)
        rounds = behaviour.number(who, rng)
        visitor = np.repeat(np.arange(num), rounds)
        users = who[visitor]

        def click(users: np.ndarray, shown: np.ndarray) -> np.ndarray:
            return behaviour.clicks(retrievers, users, shown, rng)

        self._clicks = [
            np.bincount(visitor, click(users, lists[users]).sum(axis=1)) for lists in self._lists
        ]
        earlier = np.repeat(np.arange(num), behaviour.number(who, rng))
        before = click(who[earlier], worse[who[earlier]]).sum(axis=1)
        self._before = np.bincount(earlier, before, minlength=num)
        ids = [str(number) for number in range(len(users))]
        drawn = interleave_all(worse[users], better[users], K, ids, "benchmark")
        credits = credit(drawn.teams, click(users, drawn.items))
        self._sign = np.sign(np.bincount(visitor, credits[:, 1] - credits[:, 0]))
        chances = [retrievers.liking(who, x[who]) * behaviour.attention[who] for x in self._lists]
        self._expected = [float(c.sum(axis=1).mean()) for c in chances]
        gain = (chances[1] - chances[0]).sum(axis=1)
        self._effect = float((gain * rounds).mean())

    def expected(self) -> list[float]:
        """Expected clicks on a list of A and of B."""
        return self._expected

    def ab(self) -> Needed:
        """Users of an A/B test of clicks per user."""
        return self._compared(*self._clicks)

    def ab_after_cuped(self) -> Needed:
        """The same of clicks less what is foreseen from those before."""
        both, before = np.concatenate(self._clicks), np.tile(self._before, 2)
        theta = np.cov(both, before)[0, 1] / before.var(ddof=1)
        shift = theta * (self._before - self._before.mean())
        return self._compared(*(clicks - shift for clicks in self._clicks))

    def _compared(self, a: np.ndarray, b: np.ndarray) -> Needed:
        variance = a.var(ddof=1) + b.var(ddof=1)
        needed = 2 * variance * (sum(QUANTILES) / self._effect) ** 2
        num = int(needed / 2) + 1
        found = []
        for _ in range(-(-EXPERIMENTS // max(1, AT_ONCE // num))):
            size = (min(EXPERIMENTS, max(1, AT_ONCE // num)), num)
            drawn = (arm[self._rng.integers(len(a), size=size)] for arm in (a, b))
            test = ttest_ind(*drawn, axis=1, equal_var=False)
            found.append((test.pvalue < LEVEL) & (test.statistic < 0))
        return 2 * num, float(np.concatenate(found).mean())

    def interleaving(self) -> Needed:
        """Users of a sign test."""
        chances = [float((self._sign < 0).mean()), float((self._sign > 0).mean())]
        decided = sum(chances)
        share = chances[1] / decided
        margin = QUANTILES[0] / 2 + QUANTILES[1] * np.sqrt(share * (1 - share))
        num = int((margin / (share - 0.5)) ** 2 / decided) + 1
        wins_a, wins_b, _ = self._rng.multinomial(num, [*chances, 1 - decided], EXPERIMENTS).T
        pairs = zip(wins_a.tolist(), wins_b.tolist(), strict=True)
        return num, float(np.mean([b > a and _p_value(b, a + b) < LEVEL for a, b in pairs]))


@functools.lru_cache(maxsize=1 << 16)
def _p_value(wins: int, decided: int) -> float:
    return float(binomtest(wins, decided).pvalue)


def _cell(needed: Needed) -> str:
    return f"{needed[0]:,} ({needed[1]:.0%})"


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
