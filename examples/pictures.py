"""What the pictures of the examples share: panels side by side in the style of `asgfn.plot.losses`."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, FAINT_INK, EDGE, GRID = "#1C2633", "#5A6675", "#8792A2", "#E4E8ED"
# Okabe and Ito's colours, which colour-blind readers tell apart
BLUE, RED, GREEN, PINK, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"


def panels(count: int, width: float = 5.4, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """An empty figure with panels of a size in inches, side by side."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, wspace=0.04)
    figure = Figure(figsize=(count * width, height), layout=layout)
    return figure, [figure.add_subplot(1, count, i + 1) for i in range(count)]


def style(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    """Texts, a quiet grid, and no frame but the two axes. Call it when everything is drawn: it adds the legend."""
    ax.set_title(title, fontsize=10, fontweight="bold", color=INK, loc="left")
    ax.set_xlabel(xlabel, fontsize=9, color=INK)
    ax.set_ylabel(ylabel, fontsize=9, color=INK)
    ax.tick_params(which="both", labelsize=8, colors=FAINT_INK, length=3)
    ax.grid(visible=True, color=GRID, linewidth=0.7)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(EDGE)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=True, framealpha=0.85, edgecolor="none", fontsize=8, labelcolor=INK)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes the figure into a folder, which is made if need be, and says so."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=160)
    print(f"saved {folder / name}")
