"""A picture of when kernels ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.plot import palette
from asgfn.plot.figures import check_path, figure_of, new_figure, save

# Okabe and Ito's colours, which colour-blind readers tell apart
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
# start and length in seconds
Span = tuple[float, float]


def timeline(kernels: Sequence[tuple[str, Sequence[Span]]], title: str, path: Any = None, ax: Any = None) -> Any:
    """Draws a bar for each run of a kernel, in a row for each kind of them. See `inspection.Profile.plot`.

    Arguments:
        kernels: the kind of each, and when it ran.
    """
    if path is not None:
        check_path(path)
    kinds = list(dict.fromkeys(kind for kind, _ in kernels))
    if ax is None:
        ax = new_figure(9, 1.2 + 0.3 * max(len(kinds), 2)).add_axes((0.16, 0.28, 0.81, 0.6))
    colours = dict(zip(kinds, _COLOURS * len(kinds), strict=False))
    for kind, spans in kernels:
        bars = [(start * 1e6, length * 1e6) for start, length in spans]
        place = (kinds.index(kind) - 0.35, 0.7)
        ax.broken_barh(bars, place, facecolors=colours[kind], edgecolors=palette.PAPER, linewidth=0.3)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.invert_yaxis()
    ax.set_xlabel("µs since the first kernel")
    ax.set_title(title, color=palette.INK)
    figure = figure_of(ax)
    if path is not None:
        save(figure, path)
    return figure
