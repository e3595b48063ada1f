"""What the boxes of a picture say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asgfn.graph import ArrayType, Asg, Node, inner_graphs
from asgfn.tree.keys import keystr, treedef_paths

LONGEST_NAME = 30
LONGEST_DETAIL = 28
MOST_DETAILS = 2

# Parameters that say where or how big, most telling first. Others follow in their own order.
TELLING = (
    "dimension_numbers",
    "axes",
    "axis",
    "dimension",
    "dimensions",
    "permutation",
    "new_sizes",
    "shape",
    "new_dtype",
)
SILENT = frozenset(
    {
        "algorithm",
        "broadcast_dimensions",
        "fill_value",
        "indices_are_sorted",
        "mode",
        "out_sharding",
        "precision",
        "preferred_element_type",
        "sharding",
        "unique_indices",
        "weak_type",
    }
)


def node_details(node: Node) -> tuple[str, ...]:
    """Up to two short lines below a node's name: what it holds, and its telling parameters."""
    lines = []
    graphs = inner_graphs(node.params)
    if graphs:
        lines.append(_held(graphs))
    lines.extend(_parameters(node.params))
    return tuple(lines[:MOST_DETAILS])


def operations(count: int) -> str:
    return f"{count:,} operation" if count == 1 else f"{count:,} operations"


def constant_name(value: np.ndarray) -> str:
    """The value of a scalar, else `constant`."""
    if value.ndim or value.dtype.kind not in "biufcV":
        return "constant"
    number = value[()]
    if value.dtype.kind in "biu":
        return str(number)
    if value.dtype.kind == "c":
        return f"{complex(number):.4g}"
    return f"{float(number):.4g}"


def output_names(asg: Asg) -> list[str]:
    """A name for each output: its path in what the function returned, else its number."""
    count = len(asg.outputs)
    if asg.out_tree is not None:
        paths = [keystr(path) for path in treedef_paths(asg.out_tree)]
        if len(paths) == count:
            return [from_the_right(f"output{path}") for path in paths]
    return [f"output {index}" for index in range(count)] if count > 1 else ["output"] * count


def type_tag(array_type: ArrayType) -> str:
    return str(array_type)


def from_the_left(text: str, length: int = LONGEST_DETAIL) -> str:
    """The text, its end cut off if it is too long."""
    return text if len(text) <= length else text[: length - 1] + "…"


def from_the_right(text: str, length: int = LONGEST_NAME) -> str:
    """An argument path, its first steps left out if it is too long: the last ones tell more."""
    if len(text) <= length:
        return text
    start = len(text) - length + 1
    steps = [place for place, letter in enumerate(text) if letter in "[." and place >= start]
    return "…" + text[steps[0] if steps else start :]


def _held(graphs: list[Asg]) -> str:
    count = operations(sum(graph.node_count() for graph in graphs))
    if len(graphs) == 1:
        name = graphs[0].name
        return from_the_left(name, LONGEST_DETAIL - len(count) - 3) + f" · {count}" if name else count
    return f"{len(graphs)} graphs · {count}"


def _parameters(params: Mapping[str, Any]) -> list[str]:
    ranked = sorted(params, key=lambda name: TELLING.index(name) if name in TELLING else len(TELLING))
    lines = []
    for name in ranked:
        text = None if name in SILENT else _value(name, params[name])
        if text is None:
            continue
        line = text if name == "dimension_numbers" else f"{name.removeprefix('new_')} {text}"
        if len(line) <= LONGEST_DETAIL:
            lines.append(line)
    return lines


def _value(name: str, value: Any) -> str | None:
    """A parameter's value in a few characters, or None when it does not help the reader of a picture."""
    if value is None or value is False:
        return None
    if name == "dimension_numbers":
        return _dimension_numbers(value)
    if isinstance(value, bool | int | float | str):
        return str(value)
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, tuple) and all(isinstance(element, int | str) for element in value):
        return "(" + ", ".join(map(str, value)) + ")" if value else None
    return None


def _dimension_numbers(value: Any) -> str | None:
    """What a dot product sums over: the axes of its left operand, then those of its right one."""
    try:
        (left, right), (batch, _) = value
        text = f"sum over {_axes(left)} · {_axes(right)}"
        return f"{text}, batch {_axes(batch)}" if batch else text
    except (TypeError, ValueError):
        return None


def _axes(axes: tuple[int, ...]) -> str:
    return ",".join(map(str, axes)) or "none"
