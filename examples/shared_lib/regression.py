"""Least squares; imported only when a model is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression


def straight_line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept, rounded, so that every machine gives the same."""
    line = linear_regression(xs, ys)
    return round(line.slope, 6), round(line.intercept, 6)
