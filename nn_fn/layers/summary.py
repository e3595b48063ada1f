"""What a model is made of, as a table: shapes, numbers of parameters, floating point operations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import asgfn
from asgfn import random, tree
from asgfn.graph.cost import node_flops
from nn_fn.layers.layer import Layer, observing, scope_name


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        path: the names that lead to it, joined with dots; "" for the model itself.
        kind: what kind of layer it is.
        output: the shape and dtype that it gives, as text.
        parameters: number of its parameters, those of layers in it included.
        flops: floating point operations of one forward pass through it, likewise.
        repeats: how often a call of the model runs it.
        depth: how many layers it is inside of.
        parameter_shapes: shapes of the arrays that are its own, by name.
    """

    path: str
    kind: str
    output: str
    parameters: int
    flops: float
    repeats: int
    depth: int
    parameter_shapes: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Summary:
    """The rows of the table, in the order in which the layers run, and totals. ``print(summary)`` shows the table."""

    rows: tuple[Row, ...]
    parameters: int
    parameter_bytes: int
    state_elements: int
    flops: float

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "parameter shapes", "parameters", "FLOPs")
        body = [
            (
                "  " * row.depth + (row.path.rpartition(".")[2] or "(model)"),
                row.kind + (f" × {row.repeats}" if row.repeats > 1 else ""),
                row.output,
                _listed(row.parameter_shapes),
                f"{row.parameters:,}" if row.parameters else "",
                _short(row.flops),
            )
            for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        rule = "─" * (sum(widths) + 2 * (len(widths) - 1))

        def text(line: tuple[str, ...]) -> str:
            cells = [c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
            return "  ".join(cells).rstrip()

        size = (
            f"{self.parameter_bytes / 1e6:.2f} MB" if self.parameter_bytes >= 1e5 else f"{self.parameter_bytes} bytes"
        )
        totals = f"{self.parameters:,} parameters ({size})"
        if self.state_elements:
            totals += f", {self.state_elements:,} numbers of state"
        totals += f", {_short(self.flops)} FLOPs a forward pass"
        return "\n".join([text(head), rule, *map(text, body), rule, totals])


def _listed(shapes: dict[str, tuple[int, ...]], most: int = 4) -> str:
    """Names and shapes, the first few of many."""
    parts = [f"{name} {list(shape)}" for name, shape in shapes.items()]
    return ", ".join(parts if len(parts) <= most else [*parts[: most - 1], f"and {len(parts) - most + 1} more"])


def _short(flops: float) -> str:
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if flops >= factor:
            return f"{flops / factor:.3g} {unit}"
    return f"{flops:.0f}"


def summary(model: Layer, x: Any, *, train: bool = False, **options: Any) -> Summary:
    """A table of a model's layers. Nothing is computed and no parameter is allocated: only types are looked at.

    Arguments:
        x: an example of the input: an array, an `asgfn.ShapeDtypeStruct`, or a shape (a tuple of ints: float32).
        train: count a pass as while training.
        options: the model's further inputs, like x.

    FLOPs are counted from the graph: two for each multiplication with addition in products and convolutions, one for
    each element of an element-wise function.
    """
    params, state = asgfn.eval_shape(model.init, random.key(0))
    watcher = _Watcher()
    with observing(watcher):
        graph = asgfn.trace(lambda p, s, x, o, key: model(p, s, x, key=key, train=train, **o)[0])(
            params, state, _type(x), {k: _type(v) for k, v in options.items()}, random.key(0) if train else None
        )
    flops = _flops_by_scope(graph)
    rows = []
    for seen in watcher.seen:
        own, whole = _parameters_at(params, seen.path, seen.layer)
        inside = sum(f for scope, f in flops.items() if scope == seen.scope or scope.startswith(seen.scope + "/"))
        rows.append(Row(seen.path, seen.layer.name, seen.output, whole, inside, seen.repeats, seen.depth, own))
    leaves = tree.leaves(params)
    return Summary(
        tuple(rows),
        sum(leaf.size for leaf in leaves),
        sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        sum(leaf.size for leaf in tree.leaves(state)),
        sum(flops.values()),
    )


def _type(x: Any) -> Any:
    if isinstance(x, tuple) and all(isinstance(n, int) for n in x):
        return asgfn.ShapeDtypeStruct(x, "float32")
    return x


@dataclass
class _Seen:
    """A layer that was applied."""

    layer: Layer
    path: str
    scope: str
    depth: int
    repeats: int
    output: str = ""


class _Watcher:
    """Notes every layer that is applied, and inside of what."""

    def __init__(self) -> None:
        self.seen: list[_Seen] = []
        self.open: list[_Seen] = []

    def before(self, layer: Layer, name: str) -> None:
        if not self.open:
            entry = _Seen(layer, "", scope_name(layer, name), 0, 1)
        else:
            outer = self.open[-1]
            times = outer.layer.config["count"] if outer.layer.kind == "repeat" else 1
            path = f"{outer.path}.{name}" if outer.path else name
            scope = f"{outer.scope}/{scope_name(layer, name)}"
            entry = _Seen(layer, path, scope, outer.depth + 1, outer.repeats * times)
        self.seen.append(entry)
        self.open.append(entry)

    def after(self, layer: Layer, x: Any, y: Any) -> None:
        entry = self.open.pop()
        entry.output = ", ".join(str(leaf.aval) for leaf in tree.leaves(y))


def _parameters_at(params: Any, path: str, layer: Layer) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shapes of a layer's own parameters, and how many numbers it has in all."""
    place = params
    for name in path.split(".") if path else ():
        place = place[name]
    own = {n: v.shape for n, v in place.items() if hasattr(v, "shape")} if isinstance(place, dict) else {}
    return own, sum(math.prod(leaf.shape) for leaf in tree.leaves(place))


def _flops_by_scope(graph: Any) -> dict[str, float]:
    """Floating point operations by scope; nodes that hold graphs are counted inside those."""
    totals: dict[str, float] = {}
    work = [(graph, 1.0, "")]
    while work:
        asg, times, prefix = work.pop()
        types = asg.value_types
        for node in asg.nodes:
            scope = f"{prefix}/{node.scope}" if prefix and node.scope else prefix or node.scope
            inner = [v for v in node.params.values() if isinstance(v, asgfn.Asg)]
            if len(inner) == 1 and node.primitive.name != "while_loop":
                work.append((inner[0], times * node.params.get("length", 1), scope))
                continue
            flops = node_flops(node, [types[i] for i in node.inputs])
            totals[scope] = totals.get(scope, 0.0) + times * flops
    return totals
