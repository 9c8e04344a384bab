"""Noise for the private release of counts: exact, from the system's source of randomness.

The discrete Laplace (two-sided geometric) distribution has `P(x) ~ exp(-|x| / scale)` on whole
numbers. A count with sensitivity d and such noise of scale d / epsilon is epsilon-differentially
private. It is drawn with whole numbers only: floating-point noise leaves traces in the last bits
that give counts away.

Sources: Ghosh, Roughgarden and Sundararajan, "Universally Utility-Maximizing Privacy Mechanisms",
STOC 2009; Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS
2020, algorithms 1 and 2, for the sampler; Mironov, "On Significance of the Least Significant Bits
for Differential Privacy", CCS 2012.
"""

from __future__ import annotations

import random
import secrets
from fractions import Fraction

_SYSTEM = secrets.SystemRandom()


def discrete_laplace(scale: Fraction, source: random.Random = _SYSTEM) -> int:
    """Draws one number.

    Args:
        scale: Positive.
        source: Of whole numbers; by default that of the system, which cannot be seeded. Another is
            for tests.
    """
    # A geometric number of scale t is drawn in two parts: what is below t by rejection, and the
    # number of whole t's by counting. Divided by s its scale is t / s.
    t, s = scale.numerator, scale.denominator
    while True:
        below = source.randrange(t)
        if not _bernoulli_exp(Fraction(below, t), source):
            continue
        whole = 0
        while _bernoulli_exp(Fraction(1), source):
            whole += 1
        size = (below + t * whole) // s
        negative = bool(source.randrange(2))
        if not (negative and size == 0):
            return -size if negative else size


def _bernoulli_exp(gamma: Fraction, source: random.Random) -> bool:
    """True with the probability exp(-gamma), for gamma from 0 to 1."""
    k = 1
    while source.randrange(gamma.denominator * k) < gamma.numerator:
        k += 1
    return k % 2 == 1
