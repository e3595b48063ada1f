"""A laid-out diagram as matplotlib artists.

The axes' data coordinates are points at full scale, y downward. What matplotlib measures on paper instead of in data
coordinates (font sizes, line widths) is multiplied by the picture's scale, so a small picture is the large one shrunk.
This module imports matplotlib; `asgfn.plot` imports it only when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection, PolyCollection
from matplotlib.patches import BoxStyle, FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from asgfn.plot import palette, sizes
from asgfn.plot.diagram import Box, Diagram
from asgfn.plot.figures import figure_of, new_figure
from asgfn.plot.highlight import Highlight
from asgfn.plot.layout import Layout
from asgfn.plot.level import Path, Rectangle
from asgfn.plot.scopes import Grouping
from asgfn.records import record

MARGIN = 14.0
HEADER_SIZE = 11.0
NOTE_SIZE = 7.0
LEGEND_SIZE = 7.0
LEGEND_ROW = 14.0
SWATCH = 9.0
ARROW_LENGTH = 5.0
ARROW_WIDTH = 4.4
CORNER = 4.0
INSET = 2.2
SMALLEST_PAGE = 170.0
LARGEST_SIDE = 200.0  # inches
LARGEST_AREA = 2600.0  # square inches
POINTS_PER_INCH = 72.0


@record
class Scene:
    """Everything that a picture shows."""

    diagram: Diagram
    grouping: Grouping
    layout: Layout
    highlight: Highlight
    title: str
    notes: tuple[str, ...]
    show_shapes: bool
    legend: bool


def draw(scene: Scene, ax: Axes | None, figsize: tuple[float, float] | None) -> Axes:
    """Draw on the given axes, or on those of a new figure of the given size in inches (else as large as needed)."""
    page = _Page(scene)
    if ax is None:
        if figsize is None:
            natural = page.width / POINTS_PER_INCH, page.height / POINTS_PER_INCH
            shrink = min(1.0, LARGEST_SIDE / max(natural), (LARGEST_AREA / (natural[0] * natural[1])) ** 0.5)
            figsize = natural[0] * shrink, natural[1] * shrink
        ax = new_figure(*figsize).add_axes((0.0, 0.0, 1.0, 1.0))
    figure = figure_of(ax)
    extent = ax.get_window_extent()
    scale = min(extent.width / page.width, extent.height / page.height) * POINTS_PER_INCH / figure.dpi
    ax.set_xlim(0, page.width)
    ax.set_ylim(page.height, 0)
    ax.set_aspect("equal", adjustable="box")
    ax.set_axis_off()
    _Painter(ax, scale).paint(page)
    return ax


class _Page:
    """The diagram with a header above and a legend below it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        header_width = sizes.text_width(scene.title, HEADER_SIZE, bold=True) if scene.title else 0.0
        note_width = max((sizes.text_width(note, NOTE_SIZE) for note in scene.notes), default=0.0)
        inner = max(scene.layout.width, min(header_width, 520.0), min(note_width, 520.0), SMALLEST_PAGE)
        self.notes = _wrapped(scene.notes, inner)
        header_height = (HEADER_SIZE * 1.4 if scene.title else 0.0) + NOTE_SIZE * 1.45 * len(self.notes)
        if header_height:
            header_height += 10.0
        self.legend_rows = _legend_rows(scene.diagram, inner) if scene.legend else []
        legend_height = LEGEND_ROW * len(self.legend_rows) + (12.0 if self.legend_rows else 0.0)
        self.width = inner + 2 * MARGIN
        self.height = scene.layout.height + header_height + legend_height + 2 * MARGIN
        self.left = MARGIN + (inner - scene.layout.width) / 2
        self.top = MARGIN + header_height
        self.legend_top = self.top + scene.layout.height + 12.0


def _wrapped(notes: Iterable[str], width: float) -> list[str]:
    lines: list[str] = []
    for note in notes:
        line = ""
        for word in note.split(" "):
            longer = f"{line} {word}" if line else word
            if line and sizes.text_width(longer, NOTE_SIZE) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _legend_rows(diagram: Diagram, width: float) -> list[list[tuple[float, str]]]:
    """The categories of the diagram's boxes in the palette's order, with their positions, broken into rows."""
    present = {box.category for box in diagram.boxes}
    rows: list[list[tuple[float, str]]] = [[]]
    x = 0.0
    for category in palette.FILLS:
        if category not in present:
            continue
        step = SWATCH + 4 + sizes.text_width(category, LEGEND_SIZE) + 14
        if rows[-1] and x + step - 14 > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, category))
        x += step
    return rows if rows[0] else []


class _Painter:
    def __init__(self, ax: Axes, scale: float) -> None:
        self.ax = ax
        self.scale = scale

    def paint(self, page: _Page) -> None:
        self.paint_header(page)
        self.paint_frames(page)
        self.paint_wires(page)
        self.paint_boxes(page)
        self.paint_legend(page)

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        self.ax.text(
            x,
            y,
            text,
            fontsize=max(size * self.scale, 0.1),
            family=sizes.FONT,
            parse_math=False,
            **{"va": "center", "color": palette.INK, **style},
        )

    def line_width(self, width: float) -> float:
        return max(width * self.scale, 0.15)

    def paint_header(self, page: _Page) -> None:
        y = MARGIN
        if page.scene.title:
            self.text(MARGIN, y + HEADER_SIZE * 0.6, page.scene.title, HEADER_SIZE, weight="bold")
            y += HEADER_SIZE * 1.4
        for note in page.notes:
            self.text(MARGIN, y + NOTE_SIZE * 0.8, note, NOTE_SIZE, color=palette.FAINT_INK)
            y += NOTE_SIZE * 1.45

    def paint_frames(self, page: _Page) -> None:
        patches = []
        for scope, rectangle in zip(page.scene.grouping.scopes, page.scene.layout.frames, strict=True):
            fill = palette.FRAME_FILLS[min(scope.depth, len(palette.FRAME_FILLS) - 1)]
            placed = rectangle.moved(page.left, page.top)
            patches.append(self.rounded(placed, CORNER + 1, fill, palette.FRAME_BORDER, 0.8))
        self.add(patches, zorder=1)
        for scope, rectangle in zip(page.scene.grouping.scopes, page.scene.layout.titles, strict=True):
            placed = rectangle.moved(page.left, page.top)
            self.text(
                placed.left + sizes.PADDING_X,
                placed.centre[1],
                scope.title,
                sizes.TITLE_SIZE,
                weight="bold",
                color=palette.FAINT_INK,
                zorder=4,
            )

    def paint_wires(self, page: _Page) -> None:
        plain: list[Path] = []
        amber: list[Path] = []
        wanted = page.scene.highlight.wires
        for path in page.scene.layout.paths:
            moved = path.moved(page.left, page.top)
            (amber if wanted.intersection(path.wires) else plain).append(moved)
        for paths, colour, width, zorder in ((plain, palette.EDGE, 0.9, 2), (amber, palette.HIGHLIGHT, 1.8, 2.5)):
            if not paths:
                continue
            outline = Outline.make_compound_path(*map(_bow, paths))
            patch = PathPatch(
                outline, facecolor="none", edgecolor=colour, linewidth=self.line_width(width), zorder=zorder
            )
            patch.set_capstyle("round")
            self.ax.add_patch(patch)
            heads = [_arrowhead(path) for path in paths if path.ends_in_box]
            self.ax.add_collection(
                PolyCollection(heads, facecolor=colour, edgecolor="none", zorder=zorder), autolim=False
            )

    def paint_boxes(self, page: _Page) -> None:
        patches = []
        placed = [rectangle.moved(page.left, page.top) for rectangle in page.scene.layout.boxes]
        for number, (box, rectangle) in enumerate(zip(page.scene.diagram.boxes, placed, strict=True)):
            is_amber = number in page.scene.highlight.boxes
            patches.extend(self.box_patches(box, _without_tags(box, rectangle), is_amber=is_amber))
        self.add(patches, zorder=3)
        for box, rectangle in zip(page.scene.diagram.boxes, placed, strict=True):
            self.write_box(box, _without_tags(box, rectangle), page.scene)

    def box_patches(self, box: Box, rectangle: Rectangle, *, is_amber: bool) -> list[FancyBboxPatch]:
        corner = rectangle.height / 2 if box.is_source or box.kind in ("output", "more") else CORNER
        line = palette.HIGHLIGHT if is_amber else palette.border(box.category)
        width = 2.2 if is_amber else 0.9
        if box.kind == "more":
            return [
                self.rounded(rectangle, corner, palette.PAPER, line if is_amber else palette.EDGE, width, dashed=True)
            ]
        face = palette.fill(box.category)
        patches = [self.rounded(rectangle, corner, face, line, width)]
        if box.holds_graphs:  # a box in the box: there is more inside
            left, top, across, down = rectangle
            inner = Rectangle(left + INSET, top + INSET, across - 2 * INSET, down - 2 * INSET)
            patches.append(self.rounded(inner, corner - 1, "none", line, 0.7))
        return patches

    def write_box(self, box: Box, rectangle: Rectangle, scene: Scene) -> None:
        x = rectangle.centre[0]
        y = rectangle.top + sizes.PADDING_Y
        is_more = box.kind == "more"
        colour = palette.FAINT_INK if is_more else palette.text_on(palette.fill(box.category))
        height = sizes.LINE_SPACING * sizes.NAME_SIZE
        weight = "normal" if is_more else "bold"
        self.text(x, y + height / 2, box.name, sizes.NAME_SIZE, ha="center", weight=weight, color=colour, zorder=4)
        y += height
        height = sizes.LINE_SPACING * sizes.DETAIL_SIZE
        for line in box.details:
            self.text(x, y + height / 2, line, sizes.DETAIL_SIZE, ha="center", color=colour, zorder=4)
            y += height
        tags = sizes.shown_tags(box, show_shapes=scene.show_shapes)
        offsets = sizes.box_size(box, -1, show_shapes=scene.show_shapes).exits
        for tag, offset in zip(tags, offsets, strict=False):
            middle = rectangle.bottom + sizes.TAG_HEIGHT / 2 + 0.3
            self.text(x + offset, middle, tag, sizes.TAG_SIZE, ha="center", color=palette.FAINT_INK, zorder=4)

    def paint_legend(self, page: _Page) -> None:
        patches = []
        for row, entries in enumerate(page.legend_rows):
            top = page.legend_top + row * LEGEND_ROW
            for x, category in entries:
                swatch = Rectangle(MARGIN + x, top + (LEGEND_ROW - SWATCH) / 2, SWATCH, SWATCH)
                patches.append(self.rounded(swatch, 2.0, palette.fill(category), palette.border(category), 0.8))
                self.text(swatch.right + 4, top + LEGEND_ROW / 2, category, LEGEND_SIZE, color=palette.FAINT_INK)
        self.add(patches, zorder=3)

    def rounded(
        self, rectangle: Rectangle, corner: float, face: str, line: str, width: float, *, dashed: bool = False
    ) -> FancyBboxPatch:
        return FancyBboxPatch(
            (rectangle.left, rectangle.top),
            rectangle.width,
            rectangle.height,
            boxstyle=BoxStyle("Round", pad=0, rounding_size=corner),
            facecolor=face,
            edgecolor=line,
            linewidth=self.line_width(width),
            linestyle=(0, (3, 2)) if dashed else "solid",
        )

    def add(self, patches: Sequence[FancyBboxPatch], *, zorder: float) -> None:
        if patches:
            self.ax.add_collection(PatchCollection(patches, match_original=True, zorder=zorder), autolim=False)


def _without_tags(box: Box, rectangle: Rectangle) -> Rectangle:
    return rectangle._replace(height=sizes.rounded_height(box))


def _bow(path: Path) -> Outline:
    """The path as curves; where it ends in a box it stops short, under the arrowhead."""
    points = list(path.points)
    if path.ends_in_box:
        x, y = points[-1]
        points[-1] = (x, y - ARROW_LENGTH * 0.8)
    vertices, codes = [points[0]], [Outline.MOVETO]
    for (x, y), (next_x, next_y) in pairwise(points):
        if abs(x - next_x) < 0.05:
            vertices.append((next_x, next_y))
            codes.append(Outline.LINETO)
        else:
            middle = (y + next_y) / 2
            vertices += [(x, middle), (next_x, middle), (next_x, next_y)]
            codes += [Outline.CURVE4] * 3
    return Outline(vertices, codes)


def _arrowhead(path: Path) -> list[tuple[float, float]]:
    x, y = path.points[-1]
    return [(x, y), (x - ARROW_WIDTH / 2, y - ARROW_LENGTH), (x + ARROW_WIDTH / 2, y - ARROW_LENGTH)]
