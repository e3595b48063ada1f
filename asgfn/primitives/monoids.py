"""User functions that combine two elements into one: which primitive they are, and how to fold with any of them.

`reduce` and `reduce_window` take such a function. The common ones (a single `add`, `max`, ...) are recognised by
tracing them; any other is vectorised and folds arrays up a binary tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes, tree
from asgfn.errors import DTypeError, ShapeError, StructureError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import bdim_at_front, primitive
from asgfn.primitives.padding import concatenate
from asgfn.primitives.shaping import broadcast_in_dim, convert_element_type, reshape
from asgfn.primitives.slicing import slice_in_dim
from asgfn.tracing import Array, ConcreteArray, as_array, bind, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_run


def identity(name: str, dtype: np.dtype) -> Any:
    """The element that `name` (add, mul, max, min, and, or, xor) combines with any x into x."""
    if name in ("max", "min"):
        if dtypes.is_integer(dtype):
            bounds = np.iinfo(dtype)
            return bounds.min if name == "max" else bounds.max
        return (name == "min") if dtypes.is_bool(dtype) else (-np.inf if name == "max" else np.inf)
    if name == "and":
        return ~np.zeros((), dtype)
    return 1 if name == "mul" else 0


def is_identity(name: str, value: Any) -> bool:
    """Whether a scalar is known to be the identity of `name`."""
    return type(value) is ConcreteArray and bool(value.value == np.asarray(identity(name, value.dtype), value.dtype))


def with_init(name: str, reduced: Array, init: Array) -> Array:
    """The result of a reduction, combined with a start value."""
    return reduced if is_identity(name, init) else bind(primitive(name), reduced, init)


def operands_of(name: str, operands: Any, init_values: Any, computation: Callable) -> tuple:
    """The flat arguments of a reduction: arrays, init values, the function as a `Combination`, and how to restore
    the structure of the operands."""
    leaves, structure = tree.flatten(operands)
    init_leaves, init_structure = tree.flatten(init_values)
    if structure != init_structure:
        raise StructureError(
            f"{name}: operands and init_values must have one structure, got {structure} and {init_structure}"
        )
    if not leaves:
        raise ShapeError(f"{name} needs at least one operand")
    arrays = [as_array(x, name) for x in leaves]
    if len({x.shape for x in arrays}) > 1:
        raise ShapeError(f"{name}: operands must have one shape, got {', '.join(str(x.aval) for x in arrays)}")
    inits = [_init(name, as_array(v, name), x) for v, x in zip(init_leaves, arrays, strict=True)]
    combine = Combination(name, computation, structure)
    return arrays, inits, combine, lambda results: tree.unflatten(structure, results)


def _init(name: str, init: Array, operand: Array) -> Array:
    if init.shape:
        raise ShapeError(f"{name}: init values must be scalars, got {init.aval} for the operand {operand.aval}")
    if init.dtype == operand.dtype:
        return init
    if not init.weak_type:
        raise DTypeError(
            f"{name}: the init value {init.aval} must have the dtype of its operand {operand.aval}; convert one of them"
        )
    return convert_element_type(init, operand.dtype)


class Combination:
    """A function of two scalars (or pytrees of scalars) into one such."""

    def __init__(self, name: str, function: Callable, structure: Any):
        self.name = name
        self.function = function
        self.structure = structure

    def _flat(self, *leaves: Any) -> list[Any]:
        half = len(leaves) // 2
        x, y = (tree.unflatten(self.structure, list(part)) for part in (leaves[:half], leaves[half:]))
        results, structure = tree.flatten(self.function(x, y))
        if structure != self.structure:
            raise StructureError(
                f"{self.name}: the computation must return the structure of its arguments, {self.structure}, "
                f"but it returned {structure}"
            )
        checked = []
        for result, leaf in zip(map(as_array, results), leaves, strict=False):
            if result.shape != leaf.shape or (result.dtype != leaf.dtype and not result.weak_type):
                raise ShapeError(
                    f"{self.name}: the computation must map two scalars {leaf.aval} to one, "
                    f"but it returned {result.aval}"
                )
            checked.append(convert_element_type(result, leaf.dtype))
        return checked

    def recognized(self, dtype: np.dtype) -> str | None:
        """The name of the primitive that the function of two scalars of this dtype is, if it is just one."""
        scalar = ArrayType((), dtype)
        asg, captures = trace_flat(self._flat, [scalar, scalar], name="computation")
        if captures or asg.constants or len(asg.nodes) != 1 or tuple(asg.outputs) != (2,):
            return None
        (node,) = asg.nodes
        return node.primitive.name if sorted(node.inputs) == [0, 1] and not node.params else None

    def pairwise(self, xs: Sequence[Array], ys: Sequence[Array]) -> list[Array]:
        """The function on all pairs of elements of arrays of one shape."""
        shape = xs[0].shape
        size = math.prod(shape)
        if size == 0:
            return list(xs)
        flat = [reshape(v, (size,)) for v in (*xs, *ys)]
        scalars = [v.aval.update(shape=()) for v in flat]
        asg, captured = trace_flat(self._flat, scalars, name="computation", why="reduce")
        mapped = MappedAxis(None, size)
        outs, dims = batch_run(asg, [*flat, *captured], [0] * len(flat) + [None] * len(captured), mapped)
        return [reshape(bdim_at_front(r, d, size), shape) for r, d in zip(outs, dims, strict=True)]

    def fold(self, stacks: Sequence[Array]) -> list[Array]:
        """Combines along the leading, non-empty axis: neighbours first, so that the order is kept."""
        stacks = list(stacks)
        while (count := stacks[0].shape[0]) > 1:
            pairs = self.pairwise(
                [slice_in_dim(s, 0, count - 1, 2) for s in stacks], [slice_in_dim(s, 1, count, 2) for s in stacks]
            )
            if count % 2:
                pairs = [
                    concatenate([p, slice_in_dim(s, count - 1, count)], 0) for p, s in zip(pairs, stacks, strict=True)
                ]
            stacks = pairs
        return [reshape(s, s.shape[1:]) for s in stacks]

    def tree(self, stacks: Sequence[Array], inits: Sequence[Array]) -> list[Array]:
        """`fold`, starting from init values."""
        starts = [broadcast_in_dim(v, s.shape[1:], ()) for v, s in zip(inits, stacks, strict=True)]
        if stacks[0].shape[0] == 0:
            return starts
        return self.pairwise(starts, self.fold(stacks))
