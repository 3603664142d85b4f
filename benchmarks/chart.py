"""The times as a chart: one line per scenario, one dot per peer, a logarithmic scale; and how they grow, as curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .fit import Points
from .peers import OURS, PEERS
from .report import FACES, Results, list_peers, list_scenarios
from .rounds import Cell


def load_matplotlib() -> Any:
    """None where it is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})
    return matplotlib


def draw_chart(results: Results, path: Path) -> bool:
    """False where matplotlib is not installed."""
    matplotlib = load_matplotlib()
    if matplotlib is None:
        return False
    from matplotlib import pyplot

    faces = [face for face in FACES if list_scenarios(results, face)]
    counts = [len(list_scenarios(results, face)) for face in faces]
    figure, panels = pyplot.subplots(
        len(faces), figsize=(9, 1.6 * len(faces) + 0.27 * sum(counts)), height_ratios=counts, squeeze=False
    )
    colours = dict(zip(PEERS, matplotlib.color_sequences["tab10"], strict=False))
    for face, (panel,) in zip(faces, panels, strict=True):
        draw_face(results, face, panel, colours)
    save(figure, path)
    return True


def save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def draw_growth(series: Sequence[Any], found: dict[str, dict[str, Points]], path: Path) -> bool:
    """One panel for each series of growth.py that was measured; False where matplotlib is not installed."""
    if load_matplotlib() is None:
        return False
    from matplotlib import pyplot

    shown = [one for one in series if one.key in found]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(4.8 * columns, 2.9 * rows), squeeze=False)
    for one, panel in zip(shown, panels.flat, strict=False):
        draw_series(one, found[one.key], panel)
    for panel in panels.flat[len(shown) :]:
        panel.set_axis_off()
    save(figure, path)
    return True


def draw_series(series: Any, found: dict[str, Points], panel: Any) -> None:
    """Logarithmic both ways; a size of zero has its place at the left."""
    for title, points in found.items():
        panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=title)
    panel.set_title(series.title.partition(":")[0].partition(",")[0], loc="left")
    panel.set_xscale("symlog" if series.sizes[0] == 0 else "log", **({"linthresh": 1} if series.sizes[0] == 0 else {}))
    panel.set_yscale("log")
    panel.set_ylim(bottom=1 if not series.is_rate else None)
    panel.set_ylabel(series.wording.quantity)
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.xaxis.set_major_formatter("{x:,g}")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False, fontsize=7)


def draw_face(results: Results, face: str, panel: Any, colours: dict[str, Any]) -> None:
    scenarios = list_scenarios(results, face)
    for peer in list_peers(results, face):
        cells = ((row, results.cells.get((scenario.key, peer))) for row, scenario in enumerate(scenarios))
        points = [(cell.best, row) for row, cell in cells if isinstance(cell, Cell)]
        style = {"s": 60, "marker": "D", "zorder": 4} if peer == OURS else {"s": 30, "zorder": 3}
        if points:
            panel.scatter(*zip(*points, strict=True), label=PEERS[peer].title, color=colours[peer], **style)
    panel.set_title(f"{FACES[face]}: microseconds per request (logarithmic; left is faster)", loc="left")
    panel.set_yticks(range(len(scenarios)), [scenario.title for scenario in scenarios])
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.grid(alpha=0.3)
    panel.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
