"""Confidence intervals: numbers in, numbers out."""

import math


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a proportion, as fractions; 95 % for the default `z`.

    Wilson's two-sided score interval for a binomial proportion. (Wilson, 1927.)

    >>> low, high = wilson_interval(9940, 10000)
    >>> round(low, 4), round(high, 4)
    (0.9923, 0.9953)
    """
    rate = successes / trials
    center = rate + z * z / (2 * trials)
    margin = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Rounding can carry the ends slightly beyond 0 and 1.
    return max(0.0, (center - margin) / scale), min(1.0, (center + margin) / scale)
