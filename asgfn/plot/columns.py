"""What the horizontal placement of a layered drawing works on."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """What placement needs to know of a vertex: its width, the free space it asks for, whether it is only a bend."""

    width: float
    margin: float
    is_bend: bool


class Strand(NamedTuple):
    """A link between consecutive layers, with the offsets of its ends from the centres of its vertices.

    Of the strands at a vertex, the one with the highest priority is kept straight; among equals, the median.
    """

    upper: int
    lower: int
    exit: float
    entry: float
    priority: int = 0


def distance(left: Column, right: Column) -> float:
    """The least distance between the centres of two vertices that stand side by side."""
    return (left.width + right.width) / 2 + max(left.margin, right.margin)
