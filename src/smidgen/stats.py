"""Intervals: numbers in, numbers out."""

import math


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The range in which a share lies with 95 % confidence (for the usual `z`), as fractions.

    Two-sided score interval of a binomial share. (Wilson, 1927.)

    >>> low, high = wilson_interval(9940, 10000)
    >>> round(low, 4), round(high, 4)
    (0.9923, 0.9953)
    """
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Rounding can carry the ends a hair beyond what a share can be.
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
