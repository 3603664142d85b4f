"""Words for how figures grow: "flat", or "linear" with the slope of a least-squares fit. They follow the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FLAT = 1.2  # the largest is at most so many times the smallest
NEAR = 0.15  # no point is farther from the line, as a part of its value
FEWEST = 3  # two points are always on a line

Points = Sequence[tuple[float, float]]


class Line(NamedTuple):
    """`start + slope * x`; `off` is the largest distance of a point, as a part of the point's value."""

    start: float
    slope: float
    off: float


class Wording(NamedTuple):
    """What x and y are: "route", "µs"."""

    unit: str
    quantity: str


def fit_line(points: Points) -> Line:
    """Least squares of relative distances, since sizes and times span decades: weights are 1 / y²."""
    weights = [1 / (y * y) for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    shared = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    slope = shared / spread
    start = mean_y - slope * mean_x
    return Line(start, slope, max(abs(start + slope * x - y) / y for x, y in points))


def describe(points: Points, wording: Wording) -> str:
    """Of the whole; else of the longest beginning that is flat or linear, and of what follows it."""
    whole = name_shape(points, wording)
    if whole:
        return whole
    for end in range(len(points) - 1, FEWEST - 1, -1):
        beginning = name_shape(points[:end], wording)
        if beginning:
            rest = points[end - 1 :]
            after = name_shape(rest, wording) if len(rest) >= FEWEST else ""
            return f"{beginning}, up to {format_size(rest[0][0])}; then {after or name_ends(rest, wording)}"
    return f"neither flat nor linear: {name_ends(points, wording)}"


def name_shape(points: Points, wording: Wording) -> str:
    """Empty where it is neither."""
    values = [y for _, y in points]
    if max(values) <= FLAT * min(values):
        return f"flat: {format_figure(min(values))} to {format_figure(max(values))} {wording.quantity}"
    line = fit_line(points)
    if line.off > NEAR:
        return ""
    slope = f"{format_figure(line.slope)} {wording.quantity} per {wording.unit}"
    return f"linear: {slope}, from {format_figure(line.start)} (points within {line.off:.0%})"


def name_ends(points: Points, wording: Wording) -> str:
    (first, low), (last, high) = points[0], points[-1]
    beginning = f"{format_figure(low)} at {format_size(first)}"
    return f"{beginning}, {format_figure(high)} {wording.quantity} at {format_size(last)}"


def format_figure(value: float) -> str:
    """Three digits, without an exponent."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 4
    return f"{value:,.{digits}f}"


def format_size(size: float) -> str:
    """Fractions as 1/n."""
    return f"{size:,g}" if size >= 1 or not size else f"1/{1 / size:,g}"
