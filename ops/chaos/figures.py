"""Arithmetic of the plays: medians, percentiles, and the slope of a line through samples."""

from collections.abc import Sequence
from statistics import linear_regression, median

_HOUR = 3600.0
_LEAST = 3


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which that part of the values lies; zero for none."""
    if not values:
        return 0.0
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * part))]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return count, median, p99 and maximum."""
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "p50": round(median(values), 4),
        "p99": round(percentile(values, 0.99), 4),
        "max": round(max(values), 4),
    }


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return by how much values grow in an hour, along the line of least squares.

    times: seconds. Zero for fewer than three samples.
    """
    if len(times) < _LEAST:
        return 0.0
    return linear_regression(times, values).slope * _HOUR
