"""The times as a chart: one line per scenario, one dot per peer, a logarithmic scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .peers import PEERS
from .report import FACES, OURS, Results, list_peers, list_scenarios
from .rounds import Cell


def draw_chart(results: Results, path: Path) -> bool:
    """False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    faces = [face for face in FACES if list_scenarios(results, face)]
    counts = [len(list_scenarios(results, face)) for face in faces]
    figure, panels = pyplot.subplots(
        len(faces), figsize=(9, 1.6 * len(faces) + 0.27 * sum(counts)), height_ratios=counts, squeeze=False
    )
    colours = dict(zip(PEERS, matplotlib.color_sequences["tab10"], strict=False))
    for face, (panel,) in zip(faces, panels, strict=True):
        draw_face(results, face, panel, colours)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


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
