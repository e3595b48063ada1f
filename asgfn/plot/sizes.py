"""How large the parts of a picture are, in points at full scale, from the sizes of their texts."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from asgfn.plot.diagram import Box, Diagram
from asgfn.plot.layout import BoxSize, FrameSize
from asgfn.plot.scopes import Grouping

FONT = "DejaVu Sans"  # comes with matplotlib: the same sizes everywhere
NAME_SIZE = 8.5
DETAIL_SIZE = 6.5
TAG_SIZE = 6.0
TITLE_SIZE = 7.5
LINE_SPACING = 1.32

PADDING_X = 8.0
PADDING_Y = 4.0
SMALLEST_WIDTH = 34.0
TAG_HEIGHT = 8.5
TAG_GAP = 8.0
MOST_TAGS = 6
EXIT_SPACING = 6.0
TITLE_HEIGHT = 14.0


@functools.lru_cache(maxsize=20_000)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The width of a line of text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return width


def rounded_height(box: Box) -> float:
    """The height of the box itself, without its tags."""
    return 2 * PADDING_Y + LINE_SPACING * (NAME_SIZE + DETAIL_SIZE * len(box.details))


def shown_tags(box: Box, *, show_shapes: bool) -> tuple[str, ...]:
    """The types written below a box: none when there are too many to read."""
    return box.tags if show_shapes and len(box.tags) <= MOST_TAGS else ()


def box_size(box: Box, frame: int, *, show_shapes: bool) -> BoxSize:
    widths = [text_width(box.name, NAME_SIZE, bold=True)]
    widths += [text_width(line, DETAIL_SIZE) for line in box.details]
    width = max(SMALLEST_WIDTH, max(widths) + 2 * PADDING_X)
    tags = shown_tags(box, show_shapes=show_shapes)
    if tags:
        tag_widths = [text_width(tag, TAG_SIZE) for tag in tags]
        width = max(width, sum(tag_widths) + TAG_GAP * (len(tags) - 1))
        exits = _centres(tag_widths, TAG_GAP)
    else:
        exits = _centres([0.0] * max(1, len(box.tags)), EXIT_SPACING)
        width = max(width, EXIT_SPACING * (len(exits) + 1))
    return BoxSize(width, rounded_height(box) + (TAG_HEIGHT if tags else 0.0), frame, tuple(exits))


def frame_sizes(grouping: Grouping) -> list[FrameSize]:
    return [
        FrameSize(scope.parent, text_width(scope.title, TITLE_SIZE, bold=True) + 2 * PADDING_X, TITLE_HEIGHT)
        for scope in grouping.scopes
    ]


def box_sizes(diagram: Diagram, grouping: Grouping, *, show_shapes: bool) -> list[BoxSize]:
    return [
        box_size(box, frame, show_shapes=show_shapes)
        for box, frame in zip(diagram.boxes, grouping.scope_of, strict=True)
    ]


def _centres(widths: Sequence[float], gap: float) -> list[float]:
    """The centres of adjacent cells, relative to the middle of the row."""
    total = sum(widths) + gap * (len(widths) - 1)
    centres, left = [], -total / 2
    for width in widths:
        centres.append(left + width / 2)
        left += width + gap
    return centres
