"""The linear map that a `custom_vjp` rule is the transpose of. It exists from linearisation until it is transposed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.errors import TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    Zero,
    bdim_at_front,
    is_linear,
    is_zero,
)
from asgfn.tracing import bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_run
from asgfn.transforms.custom_rules import Rule


def _type(*types: ArrayType, result_types: tuple, **params: Any) -> tuple:
    return result_types


def _custom_transpose(
    cts: Sequence[Any],
    *operands: Any,
    bwd: Callable,
    nonzero: tuple,
    result_types: tuple,
    residual_tree: Any,
    name: str,
) -> list:
    residuals = [x for x in operands if not is_linear(x)]
    n_res = len(operands) - sum(nonzero)
    if len(residuals) != n_res:
        raise TransformError(f"custom_vjp function {name}: its residuals depend on what is being transposed")
    found = bwd(residual_tree, residuals, cts)
    return [*([None] * n_res), *(ct for ct, nz in zip(found, nonzero, strict=True) if nz)]


def _custom_transpose_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, name: str, **params: Any) -> tuple:
    raise TransformError(
        f"the linear map of custom_vjp function {name} cannot be differentiated before it is transposed; use custom_jvp, or nest grad instead"
    )


def _custom_transpose_batch(
    axis: MappedAxis,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    bwd: Callable,
    nonzero: tuple,
    result_types: tuple,
    residual_tree: Any,
    name: str,
) -> tuple:
    n_res = len(args) - sum(nonzero)
    full = [bdim_at_front(x, d, axis.size) for x, d in zip(args, dims, strict=True)]
    res_types = [x.aval.update(shape=x.shape[1:]) for x in full[:n_res]]

    def batched_bwd(tree: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        present: list[bool] = []

        def flat(*xs: Any) -> list[Any]:
            given = iter(xs[n_res:])
            found = bwd(
                tree,
                xs[:n_res],
                [Zero(t) if is_zero(ct) else next(given) for ct, t in zip(cts, result_types, strict=True)],
            )
            present[:] = [not is_zero(ct) for ct in found]
            return [ct for ct in found if not is_zero(ct)]

        some = [ct for ct in cts if not is_zero(ct)]
        types = [*res_types, *(ct.aval.update(shape=ct.shape[1:]) for ct in some)]
        derived, captured = trace_flat(flat, types, name=f"bwd({name})", why="custom_vjp")
        given = [*residuals, *some]
        found, out_dims = batch_run(
            derived, [*given, *captured], [*([0] * len(given)), *([None] * len(captured))], axis
        )
        it = iter(bdim_at_front(x, d, axis.size) for x, d in zip(found, out_dims, strict=True))
        return [next(it) if p else Zero(ArrayType((), np.dtype("float32"))) for p in present]

    new_types = tuple(t.update(shape=(axis.size, *t.shape)) for t in result_types)
    wrapped = Rule(name, batched_bwd, "batched", bwd, axis, nonzero, result_types)
    outs = bind(
        custom_transpose_p,
        *full,
        bwd=wrapped,
        nonzero=nonzero,
        result_types=new_types,
        residual_tree=residual_tree,
        name=name,
    )
    return outs, (0,) * len(outs)


custom_transpose_p = Primitive(
    "custom_vjp_linear",
    category="call",
    type_rule=_type,
    jvp=_custom_transpose_jvp,
    transpose=_custom_transpose,
    axis_batch=_custom_transpose_batch,
    multiple_results=True,
    what="The linear map whose transpose a custom_vjp rule is; it exists only until it is transposed.",
    formula="dx = bwd(r, dy)",
    why="Carries a reverse rule through linearisation.",
)
