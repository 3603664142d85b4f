"""What a part found, as rows of a table, and what should not have been."""

from __future__ import annotations

from collections.abc import Sequence


class Findings:
    """`expect` notes what fails; the rest of the part still runs."""

    def __init__(self, title: str, *columns: str) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.failures: list[str] = []

    def add(self, *cells: object) -> None:
        self.rows.append(tuple(str(cell) for cell in cells))

    def expect(self, condition: object, what: str) -> None:
        if not condition:
            self.failures.append(f"{self.title}: {what}")

    def lines(self) -> list[str]:
        """Markdown."""
        table = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return [f"### {self.title}", "", *(f"| {' | '.join(cells)} |" for cells in table), "", *self.notes]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def in_ms(values: Sequence[float]) -> tuple[str, ...]:
    """Median, 99th percentile, worst, of seconds."""
    return tuple(f"{percentile(values, share) * 1000:.1f} ms" for share in (0.5, 0.99, 1))
