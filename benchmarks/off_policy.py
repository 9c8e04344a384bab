"""Off-policy estimates against the truth: bias, spread and error by sample size and clipping.

    python -m benchmarks.off_policy [--logs 200] [--seed 1]

On the synthetic marketplace, whose truth is known. The logging policy serves ten items of the forty
that a two-tower retriever ranks first: in 60 % of the requests the first ten in their order, in
20 % these in random order, in 20 % ten of the forty at random. So an item's propensity at a place
is 0.6 if the retriever puts it there, plus 0.02 if it is one of the first ten, plus 0.005. The
target serves the ten of the forty that a better retriever ranks first. Users look at a rank with
the attention of DCG and click what is relevant to them. The reward model of the doubly robust
estimate is a logistic regression on both retrievers' scores and the rank, fitted on another log of
20,000 requests.

At last the same with users who stop at their first click, which breaks the assumption of the
estimates: what a place earns then depends on the items above it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.retrievers import Retrievers, train_retrievers
from fairness_losses.browsing import dcg_weights
from serving.experiments.off_policy import Estimate, LoggedLists, doubly_robust, ips, snips

K, POOL = 10, 40
SHUFFLED, EXPLORED = 0.2, 0.2
SIZES, CLIPS = (300, 3000, 30_000), (None, 100.0, 20.0)
FITTED_ON = 20_000

PLACES = np.arange(K)


class Log(NamedTuple):
    """A log with what estimates need of it.

    Attributes:
        lists: The log.
        predicted: What the model says of the logged items, `[num_requests, K]`.
        expected: What it says of the target's, `[num_requests, K]`.
    """

    lists: LoggedLists
    predicted: np.ndarray
    expected: np.ndarray


ESTIMATES: dict[str, Callable[[Log, float | None], Estimate]] = {
    "IPS": lambda log, clip: ips(log.lists, clip),
    "SNIPS": lambda log, clip: snips(log.lists, clip),
    "DR": lambda log, clip: doubly_robust(log.lists, log.predicted, log.expected, clip),
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    retrievers = train_retrievers([0.3, 1.0], options.seed)
    for stops in (False, True):
        policies = Policies(retrievers, stops, np.random.default_rng([options.seed, stops]))
        truth = policies.truth()
        whose = "users who stop at their first click" if stops else "users who look at ranks"
        print(f"\n{whose}: the logging policy earns {policies.logged():.3f} clicks per list, ")
        print(f"the target {truth:.3f}\n")
        print("| lists | clipped at | | bias | spread | error | interval holds | effective |")
        print("|---|---|---|---|---|---|---|---|")
        for size in SIZES[-1:] if stops else SIZES:
            _print_rows(policies, truth, size, options.logs)


def _print_rows(policies: Policies, truth: float, size: int, num_logs: int) -> None:
    found: dict[tuple[float | None, str], list[Estimate]] = {}
    for _ in range(num_logs):
        log = policies.log(size)
        for clip in CLIPS:
            for name, estimate in ESTIMATES.items():
                found.setdefault((clip, name), []).append(estimate(log, clip))
    for (clip, name), estimates in found.items():
        values = np.array([estimate.value for estimate in estimates]) / truth
        holds = np.mean([e.low <= truth <= e.high for e in estimates])
        effective = np.mean([e.effective_sample_size for e in estimates])
        error = np.sqrt(np.mean((values - 1) ** 2))
        print(
            f"| {size:,} | {clip or 'none'} | {name} | {values.mean() - 1:+.1%} "
            f"| {values.std():.1%} | {error:.1%} | {holds:.0%} | {effective:,.0f} |",
            flush=True,
        )


class Policies:
    """The logging policy, the target and the users.

    Args:
        retrievers: The first is the logging policy's, the last the target's.
        stops: Whether users stop at their first click.
        rng: Of the logs.
    """

    def __init__(self, retrievers: Retrievers, stops: bool, rng: np.random.Generator) -> None:
        self._stops, self._rng = stops, rng
        logging, target = retrievers.scores.values()
        self._pool = retrievers.lists(next(iter(retrievers.scores)), POOL)
        users = np.arange(len(self._pool))
        self._liking = retrievers.liking(users, self._pool)
        self._scores = np.stack(
            [np.take_along_axis(s, self._pool, axis=1) for s in (logging, target)], axis=2
        )
        # Positions in the pool of what the target serves.
        self._target = np.argsort(-self._scores[:, :, 1], axis=1)[:, :K]
        self._model = self._fit()

    def truth(self) -> float:
        """Expected clicks on a list of the target."""
        return float(self._expected_clicks(self._target).mean())

    def logged(self) -> float:
        """Mean clicks on a list of the logging policy, in a large log."""
        return float(self._draw(100_000)[2].sum(axis=1).mean())

    def log(self, size: int) -> Log:
        """Draws a log."""
        users, shown, clicks = self._draw(size)
        propensity = (1 - SHUFFLED - EXPLORED) * (shown == PLACES)
        propensity += SHUFFLED / K * (shown < K) + EXPLORED / POOL
        wanted = self._target[users]
        return Log(
            LoggedLists(clicks.astype(float), propensity, (shown == wanted).astype(float)),
            self._predict(users, shown),
            self._predict(users, wanted),
        )

    def _draw(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Users, positions in the pool of what they saw, and clicks."""
        users = self._rng.integers(len(self._pool), size=size)
        explored = self._rng.random((size, POOL)).argsort(axis=1)[:, :K]
        shuffled = self._rng.random((size, K)).argsort(axis=1)
        which = self._rng.random((size, 1))
        shown = np.where(which < SHUFFLED, shuffled, PLACES)
        shown = np.where(which >= 1 - EXPLORED, explored, shown)
        liking = self._liking[users[:, None], shown]
        clicks = self._rng.random(shown.shape) < liking * dcg_weights(K)
        if self._stops:
            clicks &= clicks.cumsum(axis=1) == 1
        return users, shown, clicks

    def _expected_clicks(self, lists: np.ndarray) -> np.ndarray:
        chances = np.take_along_axis(self._liking, lists, axis=1) * dcg_weights(K)
        if self._stops:
            return 1 - np.prod(1 - chances, axis=1)
        return chances.sum(axis=1)

    def _features(self, users: np.ndarray, shown: np.ndarray) -> np.ndarray:
        scores = self._scores[users[:, None], shown].reshape(-1, 2)
        return np.column_stack([scores, np.tile(np.log(dcg_weights(K)), len(users))])

    def _fit(self) -> LogisticRegression:
        users, shown, clicks = self._draw(FITTED_ON)
        return LogisticRegression().fit(self._features(users, shown), clicks.ravel())

    def _predict(self, users: np.ndarray, shown: np.ndarray) -> np.ndarray:
        chances = self._model.predict_proba(self._features(users, shown))[:, 1]
        return chances.reshape(shown.shape)


if __name__ == "__main__":
    main()
