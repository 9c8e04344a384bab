"""Leakage probe: how well a fresh classifier recovers an attribute from vectors.

An attribute that is no input of a tower can still be in its vectors, learnt from what users choose.
What a classifier can read there, retrieval can act on.

Sources: Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016;
for recommendations Ganhör et al., "Unlearning Protected User Attributes in Recommendations with
Adversarial Training", SIGIR 2022, who judge their attackers by accuracy and balanced accuracy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairness_losses.bootstrap import estimate, resampled_sums
from fairness_losses.config import UNKNOWN
from pipelines.config import RunConfig

_MAX_ROWS = 20_000
"""More rows take longer and move no figure by more than its interval."""


def leakage(
    users: pa.Table,
    query_vectors: np.ndarray,
    items: pa.Table,
    item_vectors: np.ndarray,
    config: RunConfig,
) -> list[dict[str, Any]]:
    """Probes a model's vectors for every sliced attribute of users and for the group of items.

    Args:
        users: A column `slice.<column>` per sliced column; null is `unknown`.
        query_vectors: float `[num_users, dim]`.
        items: `group` of every item.
        item_vectors: float `[num_items, dim]`.
        config: The run configuration.

    Returns:
        Per attribute, as JSON values: `side` (`users` or `items`), `attribute` (the columns that it
        comes from) and what `probe` returns.
    """
    probed = [
        ("users", column, query_vectors, users[f"slice.{column}"])
        for column in config.slice_columns
    ]
    if config.groups is not None:
        probed.append(("items", " × ".join(config.groups.columns), item_vectors, items["group"]))
    return [
        {
            "side": side,
            "attribute": attribute,
            **probe(
                vectors,
                pc.fill_null(labels, UNKNOWN).to_numpy().astype(str),
                config.seed,
                min_members=config.audit.min_users,
                samples=config.audit.bootstrap_samples,
                confidence=config.audit.confidence,
            ),
        }
        for side, attribute, vectors, labels in probed
    ]


def probe(
    vectors: np.ndarray,
    labels: np.ndarray,
    seed: int,
    *,
    folds: int = 5,
    min_members: int = 20,
    samples: int = 1000,
    confidence: float = 0.95,
    max_rows: int = _MAX_ROWS,
) -> dict[str, Any]:
    """How well labels are recovered from vectors by a classifier that was not fitted on them.

    A logistic regression on standardised vectors states the chance of every label for the rows of
    the one fold in `folds` that it has not seen. The label with the largest chance is the answer
    for the accuracy, that with the largest chance over frequency the answer for the balanced
    accuracy (the mean over labels of the part of its members that is recovered): each is the best
    answer for its measure if the chances are right. Source of the latter: Menon et al., "Long-tail
    learning via logit adjustment", ICLR 2021.

    The intervals are over rows, with the classifiers as they are: of pure noise about one in twenty
    lies above the guess at the level 0.95, not one in forty (measured at 600 x 6 and 2000 x 64).
    The probe is linear: what it does not find may still be there.

    Args:
        vectors: float `[num_rows, dim]`, finite.
        labels: str `[num_rows]`; `unknown` is left out.
        seed: Of the rows, folds and resamples.
        folds: Number of folds; each holds the labels in proportion.
        min_members: Labels of fewer members (or than there are folds) are left out.
        samples: Resamples behind every interval.
        confidence: Level of the intervals.
        max_rows: At most so many rows with a label are drawn.

    Returns:
        JSON values: `accuracy` and `balanced_accuracy`, figures whose `count` is the number of
        rows; what answers without the vectors reach: `baseline`, the accuracy of the most frequent
        label, and `balanced_baseline`, 1 over the number of labels; `labels`, the names; `unknown`,
        the rows without a label, None if they are some but fewer than `min_members`; and
        `withheld_labels`, the number of labels that were left out. `{"suppressed": True}` if fewer
        than two labels remain.

    Raises:
        ValueError: A vector is not finite.
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(labels != UNKNOWN)
    rows = np.sort(rng.permutation(known)[:max_rows])
    names, codes, members = np.unique(labels[rows], return_inverse=True, return_counts=True)
    enough = members >= max(min_members, folds)
    if enough.sum() < 2:
        return {"suppressed": True}
    kept = enough[codes]
    codes, members = (enough.cumsum() - 1)[codes[kept]], members[enough]
    frequency = members / members.sum()
    chances = _out_of_fold(vectors[rows[kept]], codes, folds, int(rng.integers(1 << 31)))

    recovered = chances.argmax(axis=1) == codes
    recovered_alike = (chances / frequency).argmax(axis=1) == codes
    of_label = np.eye(len(members))[codes]
    per_row = np.column_stack([recovered, of_label * recovered_alike[:, None], of_label])
    drawn = resampled_sums(per_row, samples, seed)
    observed = per_row.sum(axis=0)
    figures = {
        name: estimate(float(measure(observed)), measure(drawn), confidence, len(codes))
        for name, measure in (("accuracy", _accuracy), ("balanced_accuracy", _balanced_accuracy))
    }
    unknown = len(labels) - len(known)
    return {
        **figures,
        "baseline": float(frequency.max()),
        "balanced_baseline": 1 / len(members),
        "labels": names[enough].tolist(),
        "unknown": None if 0 < unknown < min_members else unknown,
        "withheld_labels": int((~enough).sum()),
    }


def _out_of_fold(vectors: np.ndarray, codes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Chance of every label, float `[num_rows, num_labels]`, by a fit without the row."""
    if not np.isfinite(vectors).all():
        raise ValueError("`vectors` should be finite.")
    return cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        vectors.astype(np.float64),
        codes,
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        method="predict_proba",
    )


def _accuracy(sums: np.ndarray) -> np.ndarray:
    recovered, _, members = _split(sums)
    return recovered / members.sum(axis=-1)


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    _, recovered, members = _split(sums)
    with np.errstate(invalid="ignore"):  # A resample may lack a label.
        return (recovered / members).mean(axis=-1)


def _split(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    recovered, of_label, members = np.split(sums, [1, 1 + sums.shape[-1] // 2], axis=-1)
    return recovered[..., 0], of_label, members
