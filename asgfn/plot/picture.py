"""`asgfn.plot.graph`: a program as a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from asgfn.graph import Asg
from asgfn.plot import labels, sizes
from asgfn.plot.bundling import bundled
from asgfn.plot.diagram import Diagram, diagram_of
from asgfn.plot.highlight import find_highlight
from asgfn.plot.inlining import inline_calls
from asgfn.plot.layout import arrange
from asgfn.plot.neighbourhood import restrict
from asgfn.plot.scopes import Grouping, collapse_scopes, group_by_scope, scopes_to_collapse
from asgfn.records import replace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Pictures with more boxes than this have their deepest scopes collapsed, unless the caller says what to collapse.
MOST_BOXES = 250


def graph(
    asg_or_function: Asg | Callable[..., Any],
    *args: Any,
    ax: Axes | None = None,
    path: str | os.PathLike[str] | None = None,
    highlight: Any = None,
    neighbourhood: int | tuple[int, int] | None = None,
    collapse: str | int | Collection[str] | None = None,
    expand: bool = False,
    show_shapes: bool = True,
    show_constants: bool = True,
    show_indices: bool = False,
    title: str | None = None,
    figsize: tuple[float, float] | None = None,
    legend: bool = True,
) -> Figure:
    """Draw a program: operations from top to bottom, name scopes as boxes around them, types where wires leave.

    ```python
    asgfn.plot.graph(loss, params, batch)                      # in a notebook
    asgfn.plot.graph(asg, path="loss.svg", collapse=1)         # in a script
    ```

    Arguments:
        asg_or_function: a graph, or a function to trace with the example arguments `args`.
        ax: matplotlib axes to draw on; without them a new figure is made, as large as the picture needs.
        path: also save the figure there, as PNG, SVG or PDF by the ending of the name.
        highlight: what to draw in amber: an index of a node, the name of an input, several of them, or
            `asgfn.plot.Path(start, end)` for every way between two of them.
        neighbourhood: draw only what lies near a node: its index, or `(index, radius)`; the radius is 2 if not given.
        collapse: scopes to draw as one box: "all", a depth (1: the scopes inside outermost ones), or names such as
            `["block0/attention"]`. By default nothing, until a picture has more than 250 boxes; `()` is never.
        expand: draw what calls of jitted functions hold, instead of one box a call.
        show_shapes: write the type below each box that makes a value.
        show_constants: draw constants.
        show_indices: write the index of each node in its box, for `highlight` and `neighbourhood`.
        title: the header; by default the graph's name.
        figsize: width and height in inches, into which the picture is scaled.
        legend: explain the colours below the picture.

    Returns:
        The matplotlib figure. A notebook shows it; pyplot does not know it.

    Raises:
        TypeError: for something that is no graph and cannot be traced, or for arguments next to a graph.
        ValueError, IndexError: for an option that names something that the graph does not have.
    """
    from asgfn.plot.drawing import Scene, draw
    from asgfn.plot.figures import check_path, figure_of, save

    if path is not None:
        check_path(path)
    asg = _as_graph(asg_or_function, args)
    shown, origins = inline_calls(asg) if expand else (asg, list(range(len(asg.nodes))))
    diagram = diagram_of(shown, origins=origins, show_constants=show_constants, show_indices=show_indices)
    if neighbourhood is not None:
        diagram = restrict(diagram, neighbourhood, len(asg.nodes))
    diagram, grouping = _collapsed(diagram, group_by_scope(diagram), collapse)
    layout = arrange(
        sizes.box_sizes(diagram, grouping, show_shapes=show_shapes), diagram.wires, sizes.frame_sizes(grouping)
    )
    scene = Scene(
        diagram=diagram,
        grouping=grouping,
        layout=layout,
        highlight=find_highlight(diagram, highlight, asg.input_names, len(asg.nodes)),
        title=(asg.name or "graph") if title is None else title,
        notes=(_summary(asg), *diagram.notes),
        show_shapes=show_shapes,
        legend=legend,
    )
    figure = figure_of(draw(scene, ax, figsize))
    if path is not None:
        save(figure, path)
    return figure


def _as_graph(asg_or_function: Any, args: tuple[Any, ...]) -> Asg:
    if isinstance(asg_or_function, Asg):
        if args:
            raise TypeError("graph: example arguments go with a function; an Asg is drawn as it is")
        return asg_or_function
    if not callable(asg_or_function):
        raise TypeError(f"graph: expected an Asg or a function, got {type(asg_or_function).__name__}")
    from asgfn.transforms.function import trace

    return trace(asg_or_function)(*args)


def _collapsed(
    diagram: Diagram, grouping: Grouping, collapse: str | int | Collection[str] | None
) -> tuple[Diagram, Grouping]:
    if collapse is not None:
        return bundled(*collapse_scopes(diagram, grouping, scopes_to_collapse(grouping, collapse)))
    if len(diagram.boxes) <= MOST_BOXES or not grouping.scopes:
        return diagram, grouping
    smaller, chosen = (diagram, grouping), set()
    for depth in range(max(scope.depth for scope in grouping.scopes), -1, -1):
        chosen = scopes_to_collapse(grouping, depth)
        smaller = bundled(*collapse_scopes(diagram, grouping, chosen))
        if len(smaller[0].boxes) <= MOST_BOXES:
            break
    hidden = sum(len(box.nodes) for box in smaller[0].boxes if box.kind == "scope")
    note = (
        f"{_counted(len(chosen), 'scope')} collapsed, holding {labels.operations(hidden)}; collapse=() draws them all"
    )
    return replace(smaller[0], notes=(*diagram.notes, note)), smaller[1]


def _summary(asg: Asg) -> str:
    parts = [
        labels.operations(len(asg.nodes)),
        _counted(len(asg.inputs), "input"),
        _counted(len(asg.outputs), "output"),
    ]
    held = asg.node_count() - len(asg.nodes)
    if held:
        parts[0] += f" ({held:,} more inside)"
    return ", ".join(parts)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
