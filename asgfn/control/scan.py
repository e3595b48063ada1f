"""`scan`: a loop that carries a state along a sequence.

As a primitive it holds its body as a graph from (constants, carry, slices of xs) to (carry, slices of ys).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from asgfn import dtypes
from asgfn.config import config
from asgfn.control.common import arrays_of, check_carry, check_count, check_same, paths_of, promoted_carry, trace_body
from asgfn.errors import ShapeError, StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.edit import extract, prune, reorder
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Linear,
    Primitive,
    Zero,
    add_tangents,
    broadcast_front,
    instantiate_zeros,
    is_linear,
    is_zero,
    move_batch_axis,
    tangent_type,
    zeros_like_type,
)
from asgfn.primitives.padding import concatenate
from asgfn.primitives.shaping import expand_dims
from asgfn.primitives.slicing import index_in_dim
from asgfn.tracing import bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_fixpoint
from asgfn.transforms.forward import jvp_graph
from asgfn.transforms.interpret import run
from asgfn.transforms.linear import linearize_graph, transpose_run
from asgfn.tree_util import tree_map, tree_structure, tree_unflatten


def _type(
    *types: ArrayType, asg: Asg, length: int, reverse: bool, num_consts: int, num_carry: int, unroll: int
) -> tuple:
    n = num_consts + num_carry
    check_count("scan", types, len(asg.inputs))
    for k, (t, body) in enumerate(zip(types, asg.inputs, strict=True)):
        expected = body if k < n else body.update(shape=(length, *body.shape))
        if t.shape != expected.shape or t.dtype != expected.dtype:
            raise ShapeError(f"scan: operand {k} must be {expected}, got {t}")
    outs = asg.out_types
    check_same("scan", asg.inputs[num_consts:n], outs[:num_carry])
    return (*outs[:num_carry], *(t.update(shape=(length, *t.shape)) for t in outs[num_carry:]))


def _split(items: Sequence[Any], num_consts: int, num_carry: int) -> tuple[list, list, list]:
    n = num_consts + num_carry
    return list(items[:num_consts]), list(items[num_consts:n]), list(items[n:])


def _carry_tangents(
    asg: Asg, nonzero: Sequence[bool], num_consts: int, num_carry: int, derive: Callable
) -> tuple[Any, list[bool], Any]:
    """Finds which carries have tangents: those that start with one, and those into which the body puts one."""
    consts, carry, xs = _split(nonzero, num_consts, num_carry)
    while True:
        force = (*carry, *([False] * (len(asg.outputs) - num_carry)))
        result = derive(asg, (*consts, *carry, *xs), force)
        present = result[-1]
        if list(present[:num_carry]) == carry:
            return result, carry, present
        carry = [a or b for a, b in zip(carry, present[:num_carry], strict=True)]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, num_consts: int, num_carry: int, **params: Any
) -> tuple:
    nonzero = [not is_zero(t) for t in tangents]
    (graph, _), carry_nz, present = _carry_tangents(asg, nonzero, num_consts, num_carry, jvp_graph)
    const_nz, _, xs_nz = _split(nonzero, num_consts, num_carry)
    n, k, c = len(asg.inputs), num_consts, num_carry
    nc, nk, nx = sum(const_nz), sum(carry_nz), sum(xs_nz)
    # the derived body takes (consts, carry, xs, tangents of each); a scan needs each kind together
    order = [
        *range(k), *range(n, n + nc),
        *range(k, k + c), *range(n + nc, n + nc + nk),
        *range(k + c, n), *range(n + nc + nk, n + nc + nk + nx),
    ]  # fmt: skip
    m = len(asg.outputs)
    outs_order = [*range(c), *range(m, m + nk), *range(c, m), *range(m + nk, len(graph.outputs))]
    body = reorder(graph, order, outs_order)
    const_t, carry_t, xs_t = _split(tangents, num_consts, num_carry)
    consts, carry, xs = _split(primals, num_consts, num_carry)
    outs = bind(
        scan_p,
        *consts, *compress(const_t, const_nz),
        *carry, *(instantiate_zeros(t) for t in compress(carry_t, carry_nz)),
        *xs, *compress(xs_t, xs_nz),
        asg=body, num_consts=k + nc, num_carry=c + nk, **params,
    )  # fmt: skip
    values = (*outs[:c], *outs[c + nk : c + nk + (m - c)])
    moved = iter((*outs[c : c + nk], *outs[c + nk + (m - c) :]))
    out_types = _type_of_outputs(asg, num_carry, params["length"])
    return values, tuple(next(moved) if p else Zero(tangent_type(t)) for p, t in zip(present, out_types, strict=True))


def _type_of_outputs(asg: Asg, num_carry: int, length: int) -> list[ArrayType]:
    return [t if i < num_carry else t.update(shape=(length, *t.shape)) for i, t in enumerate(asg.out_types)]


def _linearize(
    primals: Sequence[Any], tangents: Sequence[Any], *, asg: Asg, num_consts: int, num_carry: int, **params: Any
) -> tuple:
    nonzero = [not is_zero(t) for t in tangents]
    (known, linear, _), carry_nz, present = _carry_tangents(asg, nonzero, num_consts, num_carry, linearize_graph)
    const_nz, _, xs_nz = _split(nonzero, num_consts, num_carry)
    consts, carry, xs = _split(primals, num_consts, num_carry)
    m, n_in = len(asg.outputs), len(known.inputs)
    residual_ids = known.outputs[m:]

    # residuals that the loop does not change are computed once, outside; those that are slices of xs need no copy
    varying = [num_consts <= i < n_in for i in range(n_in)] + [False] * len(known.constants)
    for node in known.nodes:
        depends = any(varying[i] for i in node.inputs) or node.primitive.is_effectful(node.params)
        varying.extend([depends] * len(node.out_types))
    fixed = [not varying[i] for i in residual_ids]
    from_xs = [num_consts + num_carry <= i < n_in for i in residual_ids]
    stacked = [not f and not x for f, x in zip(fixed, from_xs, strict=True)]

    body = prune(known.replace(outputs=(*known.outputs[:m], *compress(residual_ids, stacked)), out_tree=None))
    outs = bind(scan_p, *primals, asg=body, num_consts=num_consts, num_carry=num_carry, **params)
    saved = iter(outs[m:])
    outer_ids = list(compress(residual_ids, fixed))
    outside = extract(known, outer_ids)
    placeholders = [*consts, *([None] * (n_in - num_consts))]  # the hoisted part reads constants only
    hoisted = iter(run(outside, placeholders)) if outer_ids else iter(())
    residuals = [
        next(hoisted) if f else primals[i] if x else next(saved)
        for i, f, x in zip(residual_ids, fixed, from_xs, strict=True)
    ]

    nc, nk, nx = sum(const_nz), sum(carry_nz), sum(xs_nz)
    base = nc + nk + nx
    of_const = [base + i for i, f in enumerate(fixed) if f]
    of_xs = [base + i for i, f in enumerate(fixed) if not f]
    order = [*range(nc), *of_const, *range(nc, nc + nk), *range(nc + nk, base), *of_xs]
    const_t, carry_t, xs_t = _split(tangents, num_consts, num_carry)
    moved = bind(
        scan_p,
        *compress(const_t, const_nz), *(residuals[i - base] for i in of_const),
        *(instantiate_zeros(t) for t in compress(carry_t, carry_nz)),
        *compress(xs_t, xs_nz), *(residuals[i - base] for i in of_xs),
        asg=reorder(linear, order), num_consts=nc + len(of_const), num_carry=nk, **params,
    )  # fmt: skip
    found = iter(moved)
    out_types = _type_of_outputs(asg, num_carry, params["length"])
    del carry, xs
    return outs[:m], tuple(next(found) if p else Zero(tangent_type(t)) for p, t in zip(present, out_types, strict=True))


def _transpose(
    cts: Sequence[Any],
    *operands: Any,
    asg: Asg,
    num_consts: int,
    num_carry: int,
    length: int,
    reverse: bool,
    unroll: int,
) -> list:
    linear = [is_linear(x) for x in operands]
    const_lin, carry_lin, xs_lin = _split(linear, num_consts, num_carry)
    # a carry that starts from zeros, say, is not traced but still linear inside; one that counts is not
    if not all(lin or dtypes.is_inexact(t.dtype) for lin, t in zip(carry_lin, asg.inputs[num_consts:], strict=False)):
        raise TransformError("scan: cannot transpose a loop whose carry holds integers: it is not linear in them")
    consts, _, xs = _split(operands, num_consts, num_carry)
    const_types, carry_types, xs_types = _split(asg.inputs, num_consts, num_carry)
    ys_present = [not is_zero(ct) for ct in cts[num_carry:]]
    plain_consts = [x for x, lin in zip(consts, const_lin, strict=True) if not lin]
    plain_xs = [x for x, lin in zip(xs, xs_lin, strict=True) if not lin]
    lin_const_types = list(compress(const_types, const_lin))
    n_plain, n_lin = len(plain_consts), len(lin_const_types)

    def backward(*args: Any) -> list[Any]:
        plain = iter(args[:n_plain])
        at = n_plain
        totals = args[at : at + n_lin]
        at += n_lin
        carry_cts = args[at : at + num_carry]
        at += num_carry
        ys_cts = iter(args[at : at + sum(ys_present)])
        at += sum(ys_present)
        slices = iter(args[at:])
        inputs = [
            *(Linear(t) if lin else next(plain) for t, lin in zip(const_types, const_lin, strict=True)),
            *(Linear(t) for t in carry_types),
            *(Linear(t) if lin else next(slices) for t, lin in zip(xs_types, xs_lin, strict=True)),
        ]
        found = transpose_run(asg, inputs, [*carry_cts, *(next(ys_cts) if p else None for p in ys_present)])
        const_cts, new_carry, xs_cts = _split(found, num_consts, num_carry)
        return [
            *(
                instantiate_zeros(add_tangents(total, ct))
                for total, ct in zip(totals, compress(const_cts, const_lin), strict=True)
            ),
            *map(instantiate_zeros, new_carry),
            *map(instantiate_zeros, compress(xs_cts, xs_lin)),
        ]

    ys_types = [tangent_type(t) for t, p in zip(asg.out_types[num_carry:], ys_present, strict=True) if p]
    types = [
        *(x for x, lin in zip(const_types, const_lin, strict=True) if not lin),
        *lin_const_types,
        *carry_types,
        *ys_types,
        *(x for x, lin in zip(xs_types, xs_lin, strict=True) if not lin),
    ]
    body, _ = trace_flat(backward, types, name=f"transpose({asg.name})", why="scan")
    outs = bind(
        scan_p,
        *plain_consts,
        *map(zeros_like_type, lin_const_types),
        *map(instantiate_zeros, cts[:num_carry]),
        *compress(cts[num_carry:], ys_present),
        *plain_xs,
        asg=body, length=length, reverse=not reverse, num_consts=n_plain, num_carry=n_lin + num_carry, unroll=unroll,
    )  # fmt: skip
    const_out = iter(outs[:n_lin])
    xs_out = iter(outs[n_lin + num_carry :])
    return [
        *(next(const_out) if lin else None for lin in const_lin),
        *(ct if lin else None for ct, lin in zip(outs[n_lin : n_lin + num_carry], carry_lin, strict=True)),
        *(next(xs_out) if lin else None for lin in xs_lin),
    ]


def _axis_batch(
    axis: MappedAxis,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    asg: Asg,
    num_consts: int,
    num_carry: int,
    **params: Any,
) -> tuple:
    n = num_consts + num_carry
    body, batched, out = batch_fixpoint(
        asg, [d is not None for d in dims], axis, slice(num_consts, n), slice(0, num_carry)
    )
    moved = []
    for k, (x, d, b) in enumerate(zip(args, dims, batched, strict=True)):
        if d is not None:
            moved.append(move_batch_axis(x, d, 0 if k < n else 1))
        else:
            moved.append(broadcast_front(x, axis.size) if b else x)
    outs = bind(scan_p, *moved, asg=body, num_consts=num_consts, num_carry=num_carry, **params)
    return outs, tuple((0 if i < num_carry else 1) if b else None for i, b in enumerate(out))


scan_p = Primitive(
    "scan",
    category="control",
    type_rule=_type,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    axis_batch=_axis_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Runs a function along a sequence, carrying a state.",
    formula="(c[t+1], y[t]) = f(c[t], x[t])",
    why="Recurrent networks, time stepping, stacks of equal layers.",
)


def scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    _split_transpose: bool = False,
) -> tuple[Any, Any]:
    """Scans a function over the leading axis of `xs`.

    Arguments:
        f: ``(carry, x) -> (carry, y)``; the carry keeps its structure, shapes and dtypes.
        init: the first carry, a pytree.
        xs: a pytree of arrays with equal leading axes, or None together with `length`.
        reverse: go from the last slice to the first (ys stay in place).
        unroll: how many steps a backend may put into one iteration; it does not change results.

    Returns:
        (last carry, ys stacked along a new leading axis).

    Raises:
        ShapeError: leading axes differ, or there is neither xs nor length.
        StructureError: the carry changes its structure or types; every leaf that does is named.
    """
    xs_leaves, xs_tree = arrays_of("scan", xs)
    init_leaves, init_tree = arrays_of("scan", init)
    for path, x in zip(paths_of("xs", xs_tree), xs_leaves, strict=True):
        if x.ndim == 0:
            raise ShapeError(f"scan: {path} is a scalar ({x.aval}); every leaf of xs needs a leading axis to scan over")
    lengths = {x.shape[0] for x in xs_leaves}
    if length is not None:
        length = operator.index(length)
        if length < 0:
            raise ValueError(f"scan: length must not be negative, got {length}")
        lengths.add(length)
    if len(lengths) != 1:
        if not lengths:
            raise ShapeError("scan: give xs, or length when there is nothing to scan over")
        rows = [f"  {p}: {x.aval}" for p, x in zip(paths_of("xs", xs_tree), xs_leaves, strict=True)]
        raise ShapeError(
            "scan: leading axes of xs"
            + (f" and length={length}" if length is not None else "")
            + " must agree, but they differ:\n"
            + "\n".join(rows)
        )
    n = lengths.pop()
    slice_types = [x.aval.update(shape=x.shape[1:]) for x in xs_leaves]
    if config.disable_jit:
        return _in_python(f, init, xs_tree, xs_leaves, n, reverse, slice_types)

    in_tree = tree_structure(((init, tree_unflatten(xs_tree, slice_types)), {}))
    names = [*paths_of("carry", init_tree), *paths_of("x", xs_tree)]
    for _ in range(len(init_leaves) + 2):
        types = [*(x.aval for x in init_leaves), *slice_types]
        asg, captured, out_tree = trace_body("scan", f, in_tree, types, names)
        pair = out_tree.children() if out_tree.num_children == 2 and out_tree.type is tuple else None
        if pair is None:
            raise StructureError(f"scan: {getattr(f, '__name__', f)} must return a pair (carry, y), got {out_tree}")
        carry_tree, ys_tree = pair
        n_carry = len(init_leaves)
        if carry_tree != init_tree:
            check_carry("scan", f, init_tree, carry_tree, [], [])
        promoted = promoted_carry("scan", init_leaves, asg.out_types[:n_carry])
        if promoted is None:
            break
        init_leaves = promoted
    check_carry("scan", f, init_tree, carry_tree, [x.aval for x in init_leaves], asg.out_types[:n_carry])
    # captured values come last in the traced graph and first in a scan
    k = len(types)
    body = reorder(asg, [*range(k, k + len(captured)), *range(k)])
    unroll = int(unroll) if unroll is not True else max(n, 1)
    outs = bind(
        scan_p, *captured, *init_leaves, *xs_leaves,
        asg=body, length=n, reverse=bool(reverse), num_consts=len(captured), num_carry=n_carry, unroll=max(int(unroll), 1),
    )  # fmt: skip
    return tree_unflatten(init_tree, outs[:n_carry]), tree_unflatten(ys_tree, outs[n_carry:])


def _in_python(
    f: Callable, init: Any, xs_tree: Any, xs: Sequence[Any], n: int, reverse: bool, slice_types: Sequence[ArrayType]
) -> tuple[Any, Any]:
    if n == 0:
        raise ValueError(
            "scan: a loop of length 0 needs jit (disable_jit is on), because the types of ys come from tracing"
        )
    carry, ys = init, []
    for t in range(n - 1, -1, -1) if reverse else range(n):
        carry, y = f(carry, tree_unflatten(xs_tree, [index_in_dim(x, t, 0, keepdims=False) for x in xs]))
        ys.append(y)
    if reverse:
        ys.reverse()
    stacked = tree_map(lambda *rows: concatenate([expand_dims(r, (0,)) for r in rows], 0), *ys)
    return carry, stacked
