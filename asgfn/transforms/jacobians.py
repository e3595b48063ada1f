"""`jacfwd`, `jacrev`, `hessian`: whole matrices of derivatives, in one vectorised sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import instantiate_zeros, tangent_type
from asgfn.primitives.elementwise import add, eq
from asgfn.primitives.shaping import broadcasted_iota, convert_element_type, reshape
from asgfn.primitives.slicing import slice_in_dim
from asgfn.tracing import type_of
from asgfn.transforms.differentiate import check_argnums, check_differentiable, jvp, vjp_parts
from asgfn.transforms.function import (
    as_function,
    function_name,
)
from asgfn.transforms.traced import at_positions
from asgfn.transforms.vmap import vmap
from asgfn.tree_util import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_map,
    tree_unflatten,
)


def _basis(types: Sequence[ArrayType]) -> list[Any]:
    """For each type the rows of the identity that belong to it, shaped like a batch of it."""
    total = sum(t.size for t in types)
    rows, start = [], 0
    for t in types:
        i = broadcasted_iota(np.int32, (total, t.size), 0)
        j = broadcasted_iota(np.int32, (total, t.size), 1)
        block = convert_element_type(eq(i, add(j, np.int32(start))), t.dtype)
        rows.append(reshape(block, (total, *t.shape)))
        start += t.size
    return rows


def _split_axis(x: Any, axis: int, types: Sequence[ArrayType]) -> list[Any]:
    """Cuts an axis of length sum of sizes into one piece a type, unfolded to its shape."""
    pieces, start = [], 0
    for t in types:
        piece = slice_in_dim(x, start, start + t.size, axis=axis)
        pieces.append(reshape(piece, (*x.shape[:axis], *t.shape, *x.shape[axis + 1 :])))
        start += t.size
    return pieces


def jacfwd(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """The Jacobian by forward mode: one pass a input element, all in one vectorised sweep.

    Returns:
        a function with fun's arguments. Its result has the structure of the output, with every leaf replaced by the structure of
        the argument(s); a leaf has shape output shape + input shape. With `has_aux`: (jacobian, aux).
    """
    f = as_function("jacfwd", fun)

    @wraps(f, updated=())
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        nums = check_argnums("jacfwd", f, argnums, len(args))
        chosen = tuple(args[n] for n in nums)
        check_differentiable("jacfwd", f, chosen, nums, holomorphic, False)

        partial = at_positions(f, args, nums, kwargs)
        leaves, tree = tree_flatten(chosen)
        types = [tangent_type(type_of(x)) for x in leaves]
        basis = _basis(types)

        def push(*tangents: Any) -> Any:
            return jvp(partial, chosen, tree_unflatten(tree, tangents), has_aux=has_aux)

        aux = None
        if has_aux:
            _, moved, aux = vmap(push, out_axes=(None, -1, None))(*basis)
        else:
            _, moved = vmap(push, out_axes=(None, -1))(*basis)
        _check_jacobian_output("jacfwd", f, moved, holomorphic)

        def unfold(x: Any) -> Any:
            parts = tree_unflatten(tree, _split_axis(x, x.ndim - 1, types))
            return parts[0] if isinstance(argnums, (int, np.integer)) else tuple(parts)

        result = tree_map(unfold, moved)
        return (result, aux) if has_aux else result

    return jacobian


def _check_jacobian_output(name: str, f: Any, out: Any, holomorphic: bool) -> None:
    for path, leaf in tree_flatten_with_path(out)[0]:
        if holomorphic and not dtypes.is_complex(leaf.dtype):
            raise TransformError(
                f"{name}({function_name(f)}): with holomorphic=True outputs must be complex, got {leaf.dtype.name} at output{keystr(path)}"
            )
        if name == "jacrev" and not holomorphic and not dtypes.is_floating(leaf.dtype):
            raise TransformError(
                f"{name}({function_name(f)}): outputs must be floating point, got {leaf.dtype.name} at output{keystr(path)}"
            )


def jacrev(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable:
    """The Jacobian by reverse mode: one pass an output element, all in one vectorised sweep. Result as for `jacfwd`."""
    f = as_function("jacrev", fun)

    @wraps(f, updated=())
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        nums = check_argnums("jacrev", f, argnums, len(args))
        chosen = tuple(args[n] for n in nums)
        check_differentiable("jacrev", f, chosen, nums, holomorphic, allow_int)

        partial = at_positions(f, args, nums, kwargs)
        t, outs, pull, residuals = vjp_parts("jacrev", partial, chosen, has_aux)
        out, aux = t.outputs(outs)
        _check_jacobian_output("jacrev", f, out, holomorphic)
        types = list(t.asg.out_types[: t.n_out])
        in_types = [x.aval for x in t.leaves]
        inexact = [dtypes.is_inexact(a.dtype) for a in in_types]

        def pull_row(*cts: Any) -> list[Any]:
            found = pull(residuals, cts)
            return [instantiate_zeros(ct) for ct, ok in zip(found, inexact, strict=True) if ok]

        rows = iter(vmap(pull_row)(*_basis(types)))
        by_input = []
        for a, ok in zip(in_types, inexact, strict=True):
            if ok:
                by_input.append(_split_axis(next(rows), 0, types))
            else:
                by_input.append([np.zeros((*o.shape, *a.shape), dtypes.float0) for o in types])
        leaves = []
        for k in range(t.n_out):
            parts = tree_unflatten(t.in_tree, [pieces[k] for pieces in by_input])
            leaves.append(parts[0] if isinstance(argnums, (int, np.integer)) else tuple(parts))
        result = tree_unflatten(t.out_tree, leaves)
        return (result, aux) if has_aux else result

    return jacobian


jacobian = jacrev


def hessian(
    fun: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable:
    """The matrix of second derivatives, as forward mode over reverse mode. A leaf has shape output + input + input."""
    return jacfwd(
        jacrev(fun, argnums, has_aux=has_aux, holomorphic=holomorphic),
        argnums,
        has_aux=has_aux,
        holomorphic=holomorphic,
    )
