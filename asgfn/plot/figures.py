"""Figures that belong to nobody's global state, show themselves in notebooks, and are written to files whole.

This module imports matplotlib; `asgfn.plot` imports it only when a picture is drawn.
"""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
DOTS_PER_INCH = 160.0
MOST_PIXELS = 40_000_000
MOST_PIXELS_A_SIDE = 30_000
# Text stays text in an SVG: it can be searched and copied, and the file is a third of the size.
FILE_STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "asgfn", "pdf.fonttype": 42}


class Picture(Figure):
    """A figure that a notebook shows, whether or not pyplot was ever imported."""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of a size in inches. pyplot does not know it, so nobody needs to close it."""
    figure = Picture(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def figure_of(ax: Axes) -> Figure:
    """The outermost figure that axes lie in."""
    figure = ax.figure
    while figure.figure is not figure:
        figure = figure.figure
    return figure


def rendered(figure: Figure, file_format: str) -> bytes:
    """The figure as the bytes of a file, without a date: the same picture gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(file_format)
    with matplotlib.rc_context(FILE_STYLE):
        figure.savefig(buffer, format=file_format, dpi=_dots_per_inch(figure), metadata=metadata)
    return buffer.getvalue()


def check_path(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """A picture's path and the format that its name ends with. Raises ValueError when that is not a known one."""
    target = Path(path)
    file_format = target.suffix.removeprefix(".").lower()
    if file_format not in FORMATS:
        known = ", ".join("." + name for name in FORMATS)
        raise ValueError(f"cannot save a picture as {os.fspath(path)!r}: the name must end with one of {known}")
    return target, file_format


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure in the format that the file's name ends with. Readers never see half a file.

    Raises:
        ValueError: when the name does not end with a known format.
        OSError: when the folder does not exist or cannot be written to.
    """
    target, file_format = check_path(path)
    content = rendered(figure, file_format)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _dots_per_inch(figure: Figure) -> float:
    """Sharp for pictures of ordinary size, less for huge ones, whose pixels would not fit in memory."""
    width, height = figure.get_size_inches()
    return min(DOTS_PER_INCH, (MOST_PIXELS / (width * height)) ** 0.5, MOST_PIXELS_A_SIDE / max(width, height))
