"""A function traced at some arguments, and checks of the tangents and cotangents that go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import NotAnArrayError, ShapeError, StructureError, TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Zero, tangent_type
from asgfn.primitives.shaping import convert_element_type
from asgfn.tracing import as_array, trace_flat
from asgfn.transforms.function import (
    argument_name,
    as_function,
    check_leaves,
    check_outputs,
    function_name,
    leaf_names,
)
from asgfn.tree_util import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_unflatten,
)


class Traced:
    """A function traced at some arguments, with everything needed to repack its results."""

    def __init__(
        self, name: str, f: Callable, args: Sequence[Any], has_aux: bool, positions: Sequence[int] | None = None
    ):
        f = as_function(name, f)
        self.leaves, self.in_tree = tree_flatten(tuple(args))

        def names() -> list[str]:
            return leaf_names(f, args, positions=positions)

        self.leaves = check_leaves(self.leaves, names, name, f)
        self.aux_tree: Any = None
        self.aux_leaves: list[Any] = []
        self.out_tree: Any = None
        arrays_at: list[int] = []

        def flat(*leaves: Any) -> list[Any]:
            result = f(*tree_unflatten(self.in_tree, leaves))
            aux_arrays: list[Any] = []
            if has_aux:
                if not isinstance(result, (tuple, list)) or len(result) != 2:
                    raise StructureError(
                        f"{name}(..., has_aux=True): {function_name(f)} must return a pair (output, aux), got {type(result).__name__}"
                    )
                result, aux = result
                self.aux_leaves, self.aux_tree = tree_flatten(aux)
                for i, leaf in enumerate(self.aux_leaves):  # aux may hold strings and the like: these pass through
                    try:
                        aux_arrays.append(as_array(leaf))
                        arrays_at.append(i)
                    except NotAnArrayError:
                        continue
            out, self.out_tree = tree_flatten(result)
            out = check_outputs(out, result, f)
            self.n_out = len(out)
            return [*out, *aux_arrays]

        self.n_out = 0
        self.asg, self.captured = trace_flat(
            flat,
            [x.aval for x in self.leaves],
            name=function_name(f),
            input_names=names(),
            values=list(self.leaves),
            staging=False,
            why=name,
        )
        self.arrays_at = arrays_at

    def outputs(self, flat: Sequence[Any]) -> tuple[Any, Any]:
        """Output and aux as the function packed them."""
        aux = None
        if self.aux_tree is not None:
            leaves = list(self.aux_leaves)
            for i, x in zip(self.arrays_at, flat[self.n_out :], strict=True):
                leaves[i] = x
            aux = tree_unflatten(self.aux_tree, leaves)
        return tree_unflatten(self.out_tree, flat[: self.n_out]), aux


def float0_zeros(t: ArrayType) -> np.ndarray:
    return np.zeros(t.shape, dtypes.float0)


def check_like(
    what: str, types: Sequence[ArrayType], leaves: Sequence[Any], paths: Callable[[], list[str]]
) -> list[Any]:
    """Tangents or cotangents as arrays of the types they must have; `Zero` for float0."""
    checked: list[Any] = []
    for k, (t, leaf) in enumerate(zip(types, leaves, strict=True)):
        expected = tangent_type(t)
        if expected.dtype == dtypes.float0:
            given = getattr(leaf, "dtype", None)
            if given != dtypes.float0:
                raise TransformError(
                    f"{what} for {paths()[k]} must have dtype float0, because the value has the non-differentiable type {t}; got {given or type(leaf).__name__}. "
                    "Make it with numpy.zeros(shape, asgfn.dtypes.float0)"
                )
            checked.append(Zero(expected))
            continue
        if type(leaf) is Zero:
            checked.append(leaf)
            continue
        x = as_array(leaf, what)
        if (
            x.dtype != expected.dtype
            and x.weak_type
            and dtypes.promote_types(x.dtype, expected.dtype) is not None
            and not dtypes.is_complex(x.dtype)
        ):
            x = convert_element_type(x, expected.dtype)
        if x.shape != expected.shape or x.dtype != expected.dtype:
            error = ShapeError if x.shape != expected.shape else TransformError
            raise error(f"{what} for {paths()[k]} must have the value's type {expected}, got {x.aval}")
        checked.append(x)
    return checked


def leaf_paths(base: str, tree: Any) -> Callable[[], list[str]]:
    def paths() -> list[str]:
        n = tree.num_leaves
        return [base + keystr(p) for p, _ in tree_flatten_with_path(tree_unflatten(tree, range(n)))[0]]

    return paths


def at_positions(f: Callable, args: Sequence[Any], nums: Sequence[int], kwargs: dict[str, Any]) -> Callable:
    """f as a function of the arguments at these positions alone; the others are fixed."""

    def partial(*parts: Any) -> Any:
        full = list(args)
        for n, part in zip(nums, parts, strict=True):
            full[n] = part
        return f(*full, **kwargs)

    partial.__name__ = function_name(f)
    partial.argument_names = tuple(argument_name(f, n) for n in nums)  # type: ignore[attr-defined]
    return partial
