"""Ratios of paired runs, with what their scatter allows to say."""

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import fmean, stdev

# Student's t for a two-sided 95 % interval, by degrees of freedom; 2 beyond.
_T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 11: 2.20}


def ratio_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ``ratios`` and the ends of its 95 % interval; of a single one the interval is all there is."""
    logs = [log(ratio) for ratio in ratios]
    mean = fmean(logs)
    if len(logs) < 2:
        return exp(mean), 0.0, float("inf")
    half = _T95.get(len(logs) - 1, 2.0) * stdev(logs) / sqrt(len(logs))
    return exp(mean), exp(mean - half), exp(mean + half)
