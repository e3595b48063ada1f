"""`cond` and `switch`: one of several functions runs, chosen by a value.

As a primitive it holds the branches as graphs over the same operands; the first operand is the index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.config import config
from asgfn.control.common import arrays_of, check_same, paths_of, trace_body
from asgfn.errors import DTypeError, ShapeError, StructureError
from asgfn.graph.asg import Asg
from asgfn.graph.edit import reorder
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    bdim_at_front,
    is_linear,
    is_zero,
    move_batch_axis,
    zeros_like_type,
)
from asgfn.primitives.elementwise import clamp, ne, select_n
from asgfn.primitives.shaping import broadcast_in_dim, convert_element_type, optimization_barrier
from asgfn.tracing import as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_graph
from asgfn.transforms.call import spread
from asgfn.transforms.forward import jvp_graph
from asgfn.transforms.function import function_name
from asgfn.transforms.interpret import run
from asgfn.transforms.linear import linearize_graph, transpose_graph
from asgfn.tree_util import tree_structure, tree_unflatten


def _type(index: ArrayType, *types: ArrayType, branches: tuple[Asg, ...]) -> tuple:
    check_same("cond", (ArrayType((), np.int32),), (index,))
    for branch in branches:
        check_same("cond", branch.inputs, types)
        check_same("cond", branches[0].out_types, branch.out_types)
    return branches[0].out_types


def _union(branches: Sequence[Asg], derive: Callable) -> tuple[list[Any], tuple[bool, ...]]:
    """Derives every branch so that they agree on which outputs exist: ``derive(branch, force)`` ends in a mask."""
    force: tuple[bool, ...] | None = None
    results = [derive(b, None) for b in branches]
    masks = [r[-1] for r in results]
    union = tuple(any(column) for column in zip(*masks, strict=True))
    if any(m != union for m in masks):
        force = union
        results = [derive(b, force) for b in branches]
    return results, union


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, branches: tuple[Asg, ...]) -> tuple:
    nonzero = tuple(not is_zero(t) for t in tangents[1:])
    results, present = _union(branches, lambda b, force: jvp_graph(b, nonzero, force))
    outs = bind(cond_p, *primals, *compress(tangents[1:], nonzero), branches=tuple(r[0] for r in results))
    m = len(branches[0].outputs)
    return outs[:m], spread(outs[m:], present, branches[0].out_types)


def _linearize(primals: Sequence[Any], tangents: Sequence[Any], *, branches: tuple[Asg, ...]) -> tuple:
    nonzero = tuple(not is_zero(t) for t in tangents[1:])
    results, present = _union(branches, lambda b, force: linearize_graph(b, nonzero, force))
    m, n = len(branches[0].outputs), sum(nonzero)
    # every branch returns the residuals of all branches, zeros in place of the others' ones; an operand that serves as a
    # residual is passed on directly
    residual_types: list[ArrayType] = []
    slots: list[list[int]] = []
    for known, _, _ in results:
        mine = []
        for i in known.outputs[m:]:
            mine.append(len(residual_types))
            residual_types.append(known.value_types[i])
        slots.append(mine)
    known_branches, linear_branches = [], []
    for k, (known, linear, _) in enumerate(results):
        own = set(slots[k])

        def values(*args: Any, known: Asg = known, own: set = own) -> list[Any]:
            outs = run(known, args)
            mine = iter(outs[m:])
            return [*outs[:m], *(next(mine) if i in own else zeros_like_type(t) for i, t in enumerate(residual_types))]

        graph, _ = trace_flat(values, known.inputs, name=known.name, input_names=known.input_names, why="cond")
        known_branches.append(graph)

        def moved(*args: Any, linear: Asg = linear, mine: list = slots[k]) -> list[Any]:
            return run(linear, [*args[:n], *(args[n + i] for i in mine)])

        graph, _ = trace_flat(moved, [*linear.inputs[:n], *residual_types], name=linear.name, why="cond")
        linear_branches.append(graph)
    outs = bind(cond_p, *primals, branches=tuple(known_branches))
    if not any(present):
        return outs[:m], spread((), present, branches[0].out_types)
    ts = bind(cond_p, primals[0], *compress(tangents[1:], nonzero), *outs[m:], branches=tuple(linear_branches))
    return outs[:m], spread(ts, present, branches[0].out_types)


def _transpose(cts: Sequence[Any], index: Any, *operands: Any, branches: tuple[Asg, ...]) -> list:
    linear = tuple(is_linear(x) for x in operands)
    given = tuple(not is_zero(ct) for ct in cts)
    results, present = _union(branches, lambda b, force: transpose_graph(b, linear, given, force))
    outs = iter(
        bind(
            cond_p,
            index,
            *(x for x, lin in zip(operands, linear, strict=True) if not lin),
            *compress(cts, given),
            branches=tuple(r[0] for r in results),
        )
    )
    found = iter([next(outs) if p else None for p in present])
    return [None, *(next(found) if lin else None for lin in linear)]


def _axis_batch(
    axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None], *, branches: tuple[Asg, ...]
) -> tuple:
    index, *operands = args
    index_dim, *operand_dims = dims
    batched = tuple(d is not None for d in operand_dims)
    moved = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(operands, operand_dims, strict=True)]
    if index_dim is None:
        results, out = _union(branches, lambda b, force: batch_graph(b, batched, axis, force))
        outs = bind(cond_p, index, *moved, branches=tuple(r[0] for r in results))
        return outs, tuple(0 if b else None for b in out)
    # the choice differs along the batch: all branches run, and each element takes its own
    index = move_batch_axis(index, index_dim, 0)
    if len(branches) > 2:
        which = clamp(np.int32(0), index, np.int32(len(branches) - 1))
    else:
        which = ne(index, np.int32(0))
    full = [bdim_at_front(x, 0 if b else None, axis.size) for x, b in zip(moved, batched, strict=True)]
    # the barrier keeps operands of a branch that is not taken from being treated as taken (and as a place to share work)
    columns = []
    every = (True,) * len(operands)
    for b in branches:
        graph, out = batch_graph(b, every, axis, (True,) * len(b.outputs))
        columns.append(run(graph, list(optimization_barrier(tuple(full))) if full else []))
    outs = []
    for cases in zip(*columns, strict=True):
        shape = cases[0].shape
        chooser = which if len(shape) == 1 else broadcast_in_dim(which, shape, (0,))
        outs.append(cases[0] if len(cases) == 1 else select_n(chooser, *cases))
    return tuple(outs), (0,) * len(outs)


cond_p = Primitive(
    "cond",
    category="control",
    type_rule=_type,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    axis_batch=_axis_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Runs one of several functions, chosen by an index.",
    formula="y = branches[i](x)",
    why="Skips work that is not needed; different behaviour by state.",
)


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """Applies ``branches[index]`` to the operands; the index is clamped to the branches there are.

    Arguments:
        index: an integer scalar.
        branches: functions of the operands with results of one structure and the same types.

    Raises:
        StructureError: branches return different structures or types; each difference is named.
        DTypeError, ShapeError: the index is not an integer scalar.
    """
    branches = list(branches)
    if not branches or not all(callable(b) for b in branches):
        raise TypeError(f"switch: branches must be a non-empty sequence of functions, got {branches!r}")
    index = as_array(index, "switch")
    if index.shape:
        raise ShapeError(
            f"switch: the index must be a scalar, got {index.aval}; apply switch under vmap to choose element by element"
        )
    if not dtypes.is_integer(index.dtype):
        raise DTypeError(f"switch: the index must be an integer, got {index.aval}")
    if config.disable_jit and hasattr(index, "value"):
        return branches[int(np.clip(index.value, 0, len(branches) - 1))](*operands)
    return _choose(
        "switch",
        clamp(np.zeros((), index.dtype), index, np.asarray(len(branches) - 1, index.dtype)),
        branches,
        operands,
    )


def cond(pred: Any, true_fun: Callable, false_fun: Callable, *operands: Any, operand: Any = None) -> Any:
    """``true_fun(*operands)`` if `pred` else ``false_fun(*operands)``; only the chosen one runs (both do, under a `vmap` over `pred`).

    Arguments:
        pred: a boolean (or number) scalar.
        true_fun, false_fun: functions of the operands with results of one structure and the same types.

    Raises:
        StructureError: the two return different structures or types; each difference is named.
        ShapeError: pred is not a scalar.
    """
    if not callable(true_fun) or not callable(false_fun):
        if callable(false_fun) or callable(operands[-1] if operands else None):
            # the older five-argument form: cond(pred, true_operand, true_fun, false_operand, false_fun)
            true_operand, (false_operand, false_f) = true_fun, operands  # type: ignore[misc]
            true_f = false_fun
            return cond(pred, lambda t, _: true_f(t), lambda _, f: false_f(f), true_operand, false_operand)
        raise TypeError("cond: true_fun and false_fun must be functions: cond(pred, true_fun, false_fun, *operands)")
    if operand is not None:
        operands = (operand,)
    pred = as_array(pred, "cond")
    if pred.shape:
        raise ShapeError(
            f"cond: pred must be a scalar, got {pred.aval}; use asgfn.numpy.where to choose element by element, or cond under vmap"
        )
    if dtypes.is_complex(pred.dtype):
        raise DTypeError(f"cond: pred must be boolean or a real number, got {pred.aval}")
    if config.disable_jit and hasattr(pred, "value"):
        return (true_fun if bool(pred.value) else false_fun)(*operands)
    if pred.dtype != np.bool_:
        pred = ne(pred, np.zeros((), pred.dtype))
    return _choose("cond", pred, [false_fun, true_fun], operands)


def _choose(name: str, index: Any, functions: Sequence[Callable], operands: Sequence[Any]) -> Any:
    leaves, tree = arrays_of(name, tuple(operands))
    index = convert_element_type(index, np.int32)
    in_tree = tree_structure((tuple(operands), {}))
    types = [x.aval for x in leaves]
    names = paths_of("operands", tree)
    traced = [trace_body(name, f, in_tree, types, names) for f in functions]
    out_tree = traced[0][2]
    _check_branches(name, functions, traced)
    # weakly typed results take the dtype that other branches return
    graphs = _agree([asg for asg, _, _ in traced])
    captured: list[Any] = []
    position: dict[int, int] = {}
    for _, found, _ in traced:
        for x in found:
            if id(x) not in position:
                position[id(x)] = len(captured)
                captured.append(x)
    n = len(types)
    all_types = [*types, *(x.aval for x in captured)]
    branches = []
    for graph, (_, found, _) in zip(graphs, traced, strict=True):
        if len(found) == len(captured):
            order = [position[id(x)] for x in found]
            inverse = [order.index(k) for k in range(len(order))]
            branches.append(reorder(graph, [*range(n), *(n + i for i in inverse)]))
        else:
            picks = [n + position[id(x)] for x in found]

            def widened(*args: Any, graph: Asg = graph, picks: list = picks) -> list[Any]:
                return run(graph, [*args[:n], *(args[i] for i in picks)])

            branches.append(trace_flat(widened, all_types, name=graph.name, why=name)[0])
    outs = bind(cond_p, index, *leaves, *captured, branches=tuple(branches))
    return tree_unflatten(out_tree, outs)


def _agree(graphs: list[Asg]) -> list[Asg]:
    columns = list(zip(*(g.out_types for g in graphs), strict=True))
    target = [
        t[0]
        if all(u == t[0] for u in t)
        else ArrayType(t[0].shape, dtypes.promote_avals(t)[0], all(u.weak_type for u in t))
        for t in columns
    ]
    result = []
    for g in graphs:
        if list(g.out_types) == target:
            result.append(g)
            continue

        def converted(*args: Any, g: Asg = g) -> list[Any]:
            return [convert_element_type(x, t.dtype, t.weak_type) for x, t in zip(run(g, args), target, strict=True)]

        result.append(trace_flat(converted, g.inputs, name=g.name, input_names=g.input_names, why="cond")[0])
    return result


def _check_branches(name: str, functions: Sequence[Callable], traced: Sequence[tuple]) -> None:
    first_asg, _, first_tree = traced[0]
    label = (lambda k: ["false_fun", "true_fun"][k]) if name == "cond" else (lambda k: f"branch {k}")
    for k, (asg, _, tree) in enumerate(traced[1:], start=1):
        if tree != first_tree:
            raise StructureError(
                f"{name}: all functions must return the same structure:\n  {label(0)} ({function_name(functions[0])}): {first_tree}\n"
                f"  {label(k)} ({function_name(functions[k])}): {tree}"
            )
        rows = []
        for path, a, b in zip(paths_of("output", tree), first_asg.out_types, asg.out_types, strict=True):
            same_dtype = a.dtype == b.dtype or (
                (a.weak_type or b.weak_type) and dtypes.promote_avals((a, b))[0] in (a.dtype, b.dtype)
            )
            if a.shape != b.shape or not same_dtype:
                rows.append(f"  {path}: {a} from {label(0)}, {b} from {label(k)}")
        if rows:
            raise StructureError(
                f"{name}: all functions must return the same types, but these differ:\n" + "\n".join(rows)
            )
