"""`while_loop` and `fori_loop`.

As a primitive a while loop holds a condition and a body as graphs over (their constants, carry). With `max_steps` it can be
differentiated in reverse: it then becomes a scan whose steps do nothing once the condition has failed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.config import config
from asgfn.control.common import arrays_of, check_carry, check_same, paths_of, promoted_carry, trace_body
from asgfn.control.cond import cond_p
from asgfn.control.scan import _linearize as _scan_linearize
from asgfn.control.scan import scan
from asgfn.errors import ConcretizationError, DTypeError, ShapeError, StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.edit import reorder
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    Zero,
    broadcast_front,
    instantiate_zeros,
    is_zero,
    move_batch_axis,
    tangent_type,
)
from asgfn.primitives.elementwise import add, bitwise_and, lt, select_n
from asgfn.primitives.reductions import reduce_or
from asgfn.primitives.shaping import broadcast_in_dim, convert_element_type
from asgfn.tracing import Tracer, as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_fixpoint, batch_graph
from asgfn.transforms.forward import jvp_graph
from asgfn.transforms.function import function_name
from asgfn.transforms.interpret import run
from asgfn.tree_util import tree_leaves, tree_map, tree_structure, tree_unflatten


def _type(
    *types: ArrayType, cond: Asg, body: Asg, num_cond_consts: int, num_body_consts: int, max_steps: int | None
) -> tuple:
    cond_types, body_types, carry = _parts(types, num_cond_consts, num_body_consts)
    check_same("while_loop", cond.inputs, (*cond_types, *carry))
    check_same("while_loop", body.inputs, (*body_types, *carry))
    check_same("while_loop", carry, body.out_types)
    check_same("while_loop", (ArrayType((), np.bool_),), cond.out_types)
    return body.out_types


def _parts(items: Sequence[Any], num_cond_consts: int, num_body_consts: int) -> tuple[list, list, list]:
    n = num_cond_consts + num_body_consts
    return list(items[:num_cond_consts]), list(items[num_cond_consts:n]), list(items[n:])


def _jvp(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    cond: Asg,
    body: Asg,
    num_cond_consts: int,
    num_body_consts: int,
    max_steps: int | None,
) -> tuple:
    _, const_t, carry_t = _parts(tangents, num_cond_consts, num_body_consts)
    cond_consts, body_consts, carry = _parts(primals, num_cond_consts, num_body_consts)
    const_nz = [not is_zero(t) for t in const_t]
    carry_nz = [not is_zero(t) for t in carry_t]
    while True:
        graph, present = jvp_graph(body, (*const_nz, *carry_nz), tuple(carry_nz))
        if list(present) == carry_nz:
            break
        carry_nz = [a or b for a, b in zip(carry_nz, present, strict=True)]
    k, c, n = num_body_consts, len(carry), len(body.inputs)
    nc, nk = sum(const_nz), sum(carry_nz)
    new_body = reorder(graph, [*range(k), *range(n, n + nc), *range(k, n), *range(n + nc, n + nc + nk)])

    def test(*args: Any) -> list[Any]:
        return run(cond, args[: num_cond_consts + c])

    extra = [tangent_type(t) for t in compress(body.inputs[k:], carry_nz)]
    new_cond, _ = trace_flat(test, [*cond.inputs, *extra], name=cond.name, why="while_loop")
    outs = bind(
        while_p,
        *cond_consts, *body_consts, *compress(const_t, const_nz), *carry, *(instantiate_zeros(t) for t in compress(carry_t, carry_nz)),
        cond=new_cond, body=new_body, num_cond_consts=num_cond_consts, num_body_consts=k + nc, max_steps=max_steps,
    )  # fmt: skip
    moved = iter(outs[c:])
    return outs[:c], tuple(
        next(moved) if nz else Zero(tangent_type(t)) for nz, t in zip(carry_nz, body.out_types, strict=True)
    )


def _linearize(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
    if params["max_steps"] is not None:
        return _bounded_linearize(primals, tangents, **params)
    # values do not depend on tangents, so they are computed apart; the tangents' loop recomputes what it needs
    outs = bind(while_p, *primals, **params)
    _, moved = _jvp(primals, tangents, **params)
    return outs, moved


def _bounded_linearize(
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    cond: Asg,
    body: Asg,
    num_cond_consts: int,
    num_body_consts: int,
    max_steps: int,
) -> tuple:
    k, n = num_cond_consts, num_cond_consts + num_body_consts

    def step(*args: Any) -> list[Any]:
        cond_consts, body_consts, carry = args[:k], args[k:n], args[n:]
        (go,) = run(cond, [*cond_consts, *carry])
        stay, _ = trace_flat(lambda *xs: list(xs[num_body_consts:]), body.inputs, name="stay", why="while_loop")
        return list(bind(cond_p, convert_element_type(go, np.int32), *body_consts, *carry, branches=(stay, body)))

    types = [*cond.inputs[:k], *body.inputs]
    graph, _ = trace_flat(step, types, name=body.name, why="while_loop")
    carry = len(body.outputs)
    return _scan_linearize(
        primals, tangents, asg=graph, length=max_steps, reverse=False, num_consts=n, num_carry=carry, unroll=1
    )


def _transpose(cts: Any, *operands: Any, **params: Any) -> list:
    raise TransformError(
        "while_loop: reverse-mode differentiation needs a bound on the number of steps. Give one (while_loop(..., max_steps=n)), use fori_loop with "
        "Python ints as bounds, or scan"
    )


def _axis_batch(
    axis: MappedAxis, args: Sequence[Any], dims: Sequence[int | None], *, cond: Asg, body: Asg, num_cond_consts: int, num_body_consts: int,
    max_steps: int | None,
) -> tuple:  # fmt: skip
    cond_consts, body_consts, carry = _parts(args, num_cond_consts, num_body_consts)
    cc_d, bc_d, carry_d = _parts(dims, num_cond_consts, num_body_consts)
    n_carry = len(carry)
    mask = [d is not None for d in (*bc_d, *carry_d)]
    new_body, in_mask, _ = batch_fixpoint(body, mask, axis, slice(num_body_consts, None), slice(0, n_carry))
    carry_b = list(in_mask[num_body_consts:])
    cond_mask = (*(d is not None for d in cc_d), *carry_b)
    new_cond, (pred_b,) = batch_graph(cond, cond_mask, axis)
    if pred_b:
        # members stop at different times: all go on while any does, and those that are done keep their carry
        carry_b = [True] * n_carry
        new_body, _ = batch_graph(body, (*in_mask[:num_body_consts], *carry_b), axis, tuple(carry_b))
        new_cond, _ = batch_graph(cond, (*cond_mask[:num_cond_consts], *carry_b), axis, (True,))
    front = [x if d is None else move_batch_axis(x, d, 0) for x, d in zip(args, dims, strict=True)]
    cond_consts, body_consts, carry = _parts(front, num_cond_consts, num_body_consts)
    carry = [
        broadcast_front(x, axis.size) if b and d is None else x for x, b, d in zip(carry, carry_b, carry_d, strict=True)
    ]
    if not pred_b:
        outs = bind(
            while_p, *cond_consts, *body_consts, *carry,
            cond=new_cond, body=new_body, num_cond_consts=num_cond_consts, num_body_consts=num_body_consts, max_steps=max_steps,
        )  # fmt: skip
        return outs, tuple(0 if b else None for b in carry_b)

    def any_goes(*xs: Any) -> list[Any]:
        return [reduce_or(run(new_cond, xs)[0], (0,))]

    def guarded(*xs: Any) -> list[Any]:
        ccs, bcs, old = _parts(xs, num_cond_consts, num_body_consts)
        (go,) = run(new_cond, [*ccs, *old])
        new = run(new_body, [*bcs, *old])
        return [
            select_n(go if o.ndim == 1 else broadcast_in_dim(go, o.shape, (0,)), o, nw)
            for o, nw in zip(old, new, strict=True)
        ]

    test, _ = trace_flat(any_goes, new_cond.inputs, name=cond.name, why="while_loop")
    types = [x.aval for x in (*cond_consts, *body_consts)] + list(new_body.inputs[num_body_consts:])
    step, _ = trace_flat(guarded, types, name=body.name, why="while_loop")
    outs = bind(
        while_p, *cond_consts, *cond_consts, *body_consts, *carry,
        cond=test, body=step, num_cond_consts=num_cond_consts, num_body_consts=num_cond_consts + num_body_consts, max_steps=max_steps,
    )  # fmt: skip
    return outs, (0,) * n_carry


while_p = Primitive(
    "while",
    category="control",
    type_rule=_type,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    axis_batch=_axis_batch,
    multiple_results=True,
    holds_graphs=True,
    what="Repeats a function while a condition holds.",
    formula="while c(x): x = f(x)",
    why="Iterations to convergence, sampling by rejection.",
)


def while_loop(cond_fun: Callable, body_fun: Callable, init_val: Any, *, max_steps: int | None = None) -> Any:
    """Applies `body_fun` to the carry while ``cond_fun(carry)`` holds.

    Arguments:
        cond_fun: carry -> boolean scalar.
        body_fun: carry -> carry of the same structure, shapes and dtypes.
        init_val: the first carry, a pytree.
        max_steps: stop after that many steps at the latest; this also makes reverse-mode differentiation possible.

    Raises:
        StructureError: the carry changes its structure or types; every leaf that does is named.
    """
    if not callable(cond_fun) or not callable(body_fun):
        raise TypeError("while_loop: cond_fun and body_fun must be functions")
    if max_steps is not None and (max_steps := operator.index(max_steps)) < 0:
        raise ValueError(f"while_loop: max_steps must not be negative, got {max_steps}")
    if config.disable_jit and not any(isinstance(x, Tracer) for x in tree_leaves(init_val)):
        val, steps = tree_map(as_array, init_val), 0
        while bool(np.asarray(cond_fun(val))) and (max_steps is None or steps < max_steps):
            val, steps = body_fun(val), steps + 1
        return tree_map(as_array, val)
    if max_steps is not None:
        return _counted(cond_fun, body_fun, init_val, max_steps)
    return _while("while_loop", cond_fun, body_fun, init_val, None)


def _counted(cond_fun: Callable, body_fun: Callable, init_val: Any, max_steps: int) -> Any:
    bound = np.int32(max_steps)
    carry = _while(
        "while_loop",
        lambda c: bitwise_and(lt(c[0], bound), _as_bool("while_loop", cond_fun, cond_fun(c[1]))),
        lambda c: (add(c[0], np.int32(1)), body_fun(c[1])),
        (np.int32(0), init_val),
        max_steps,
    )
    return carry[1]


def _as_bool(name: str, f: Callable, x: Any) -> Any:
    leaves = tree_leaves(x)
    if len(leaves) != 1 or x is not leaves[0]:
        raise StructureError(f"{name}: {function_name(f)} must return one boolean scalar, got {tree_structure(x)}")
    x = as_array(x, name)
    if x.shape:
        raise ShapeError(
            f"{name}: {function_name(f)} must return a boolean scalar, got {x.aval}; reduce it with .any() or .all()"
        )
    if x.dtype != np.bool_:
        raise DTypeError(
            f"{name}: {function_name(f)} must return a boolean scalar, got {x.aval}; compare it with something"
        )
    return x


def _while(name: str, cond_fun: Callable, body_fun: Callable, init_val: Any, max_steps: int | None) -> Any:
    leaves, tree = arrays_of(name, init_val)
    in_tree = tree_structure(((init_val,), {}))
    names = paths_of("carry", tree)
    for _ in range(len(leaves) + 2):
        types = [x.aval for x in leaves]
        body, body_caught, out_tree = trace_body(name, body_fun, in_tree, types, names)
        if out_tree != tree:
            check_carry(name, body_fun, tree, out_tree, [], [])
        promoted = promoted_carry(name, leaves, body.out_types)
        if promoted is None:
            break
        leaves = promoted
    check_carry(name, body_fun, tree, out_tree, types, body.out_types)
    test, test_caught, _ = trace_body(name, lambda c: _as_bool(name, cond_fun, cond_fun(c)), in_tree, types, names)
    k = len(types)
    body = reorder(body, [*range(k, k + len(body_caught)), *range(k)])
    test = reorder(test, [*range(k, k + len(test_caught)), *range(k)])
    outs = bind(
        while_p, *test_caught, *body_caught, *leaves,
        cond=test, body=body, num_cond_consts=len(test_caught), num_body_consts=len(body_caught), max_steps=max_steps,
    )  # fmt: skip
    return tree_unflatten(tree, outs)


def fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any, *, unroll: int | bool | None = None) -> Any:
    """``for i in range(lower, upper): val = body_fun(i, val)`` as one operation.

    With Python ints (or known values) as bounds the number of steps is static, and the loop can be differentiated in reverse.

    Raises:
        DTypeError: bounds are not integers, or have different dtypes.
        StructureError: the carry changes its structure or types.
    """
    if not callable(body_fun):
        raise TypeError("fori_loop: body_fun must be a function of (index, value)")
    lo, hi = as_array(lower, "fori_loop"), as_array(upper, "fori_loop")
    if lo.shape or hi.shape or not dtypes.is_integer(lo.dtype) or not dtypes.is_integer(hi.dtype):
        raise DTypeError(f"fori_loop: bounds must be integer scalars, got {lo.aval} and {hi.aval}")
    # the index of Python bounds is weakly typed, like a Python int
    dtype, weak = dtypes.promote_avals((lo.aval, hi.aval))
    lo, hi, one = (convert_element_type(x, dtype, weak) for x in (lo, hi, 1))
    try:
        first, last = operator.index(lower), operator.index(upper)
    except (ConcretizationError, TypeError):
        init = (lo, hi, init_val)
        _, _, val = _while(
            "fori_loop", lambda c: lt(c[0], c[1]), lambda c: (add(c[0], one), c[1], body_fun(c[0], c[2])), init, None
        )
        return val
    if config.disable_jit:
        val = init_val
        for i in range(first, last):
            val = body_fun(convert_element_type(i, dtype, weak), val)
        return val
    (_, val), _ = scan(
        lambda c, _: ((add(c[0], one), body_fun(c[0], c[1])), None),
        (lo, init_val),
        None,
        length=max(last - first, 0),
        unroll=unroll or 1,
    )
    return val
