"""How a ratio would move if some labels of the items were wrong.

Let a part e of the items of every one of G groups carry the label of one of the others, each alike,
and let the errors have nothing to do with how the items are listed. Then a group's observed share p
of anything is `(1 - e) t + e / (G - 1) (1 - t)` of its true share t, so

    t = (p - c) / (1 - e G / (G - 1)),    c = e / (G - 1),

in exposure and, where the target follows from the same labels, in the target. Their ratio is then
`(p_exposure - c) / (p_target - c)`. A ratio below 1 was too high, one above 1 too low: errors hide
a difference, and never make one. Where a share is no more than c, errors alone could have made it,
and nothing is known.

Source: Rogan and Gladen, "Estimating Prevalence from the Results of a Screening Test", American
Journal of Epidemiology 1978; Barron, "The Effects of Misclassification on the Estimation of
Relative Risk", Biometrics 1977.
"""

from __future__ import annotations

import numpy as np


def corrected_ratio(
    share: np.ndarray, target: np.ndarray, rate: float, target_from_labels: bool
) -> np.ndarray:
    """Exposure ratios as they would be without errors in the labels.

    Args:
        share: float `[num_groups]`, exposure shares of groups with a target.
        target: float `[num_groups]`, target shares, 0 for none.
        rate: e, from 0 to below 1.
        target_from_labels: Whether the target was found from the same labels; else it was given.

    Returns:
        float64 `[num_groups]`; NaN for a group without a target, and where nothing is known.
    """
    has_target = target > 0
    groups = int(has_target.sum())
    if groups < 2 or rate >= (groups - 1) / groups:
        return np.full(len(target), np.nan)
    wrong = rate / (groups - 1)
    scale = 1 - rate * groups / (groups - 1)
    true_share = (share - wrong) / scale
    true_target = (target - wrong) / scale if target_from_labels else target
    known = has_target & (true_share >= 0) & (true_target > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, true_share / true_target, np.nan)
