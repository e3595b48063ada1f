"""The text form of a graph: one line a node, inner graphs indented."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn.graph.asg import Asg


def value_name(i: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa, ... like columns of a spreadsheet."""
    letters = ""
    i += 1
    while i:
        i, r = divmod(i - 1, 26)
        letters = chr(ord("a") + r) + letters
    return letters


def _param_text(value: Any) -> str:
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, np.ndarray):
        return f"array{value.shape}"
    if callable(value) and hasattr(value, "__name__"):
        return f"<{value.__name__}>"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        inner = ", ".join(map(_param_text, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return str(value)


def constant_text(value: np.ndarray) -> str:
    """A scalar constant's value, or a short description of a larger one."""
    if value.ndim == 0:
        return f"{value[()]}"
    if value.size <= 8 and value.ndim == 1:
        return "[" + " ".join(f"{v}" for v in value) + "]"
    return "..."


def to_text(asg: Asg, *, sources: bool = False) -> str:
    """Readable text: a line a node. `sources=True` adds the user's file and line."""
    types = asg.value_types
    names: list[str] = []
    lines = []
    for i, (t, label) in enumerate(zip(asg.inputs, asg.input_names, strict=True)):
        names.append(value_name(i))
        lines.append(f"  in  {names[i]}: {t}  {label}")
    n_in = len(asg.inputs)
    for k, c in enumerate(asg.constants):
        # scalars stand where they are used; larger constants get a line and a name
        if c.ndim == 0:
            names.append(constant_text(c))
        else:
            names.append(value_name(n_in + k))
            lines.append(f"  const {names[-1]}: {types[n_in + k]} = {constant_text(c)}")
    scope = ""
    for node, first in zip(asg.nodes, asg.first_outputs, strict=True):
        if node.scope != scope:
            scope = node.scope
            lines.append(f"  # {scope or '(top)'}")
        outs = []
        for k, t in enumerate(node.out_types):
            names.append(value_name(first + k))
            outs.append(f"{names[-1]}: {t}")
        params: list[str] = []
        graphs: list[tuple[str, Asg]] = []
        for key, value in node.params.items():
            held = value if isinstance(value, tuple) else (value,)
            if held and all(isinstance(v, Asg) for v in held):
                graphs.extend((key, g) for g in held)
            elif value is not None:
                params.append(f"{key}={_param_text(value)}")
        line = f"  {', '.join(outs) or '_'} = {' '.join([node.primitive.name, *(names[i] for i in node.inputs)])}"
        if params:
            line += f"  [{' '.join(params)}]"
        if sources and node.source is not None:
            line += f"  ; {node.source}"
        lines.append(line)
        for key, graph in graphs:
            body = to_text(graph, sources=sources).splitlines()
            lines.append(f"      {key}: {body[0]}")
            lines.extend("      " + inner for inner in body[1:])
    lines.append("  out " + ", ".join(names[i] for i in asg.outputs))
    return "\n".join([f"asg {asg.name or '<lambda>'} {{", *lines, "}"])
