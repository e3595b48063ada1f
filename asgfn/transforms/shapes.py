"""`eval_shape` and `ShapeDtypeStruct`: types without values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asgfn import dtypes
from asgfn.transforms.function import as_function, trace_to_graph
from asgfn.tree_util import tree_unflatten


class ShapeDtypeStruct:
    """A stand-in for an array: its shape and dtype. Accepted wherever only types matter (`eval_shape`, `lower`, `trace`)."""

    __slots__ = ("dtype", "shape", "weak_type")

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Any,
        *,
        named_shape: Any = None,
        sharding: Any = None,
        weak_type: bool = False,
    ):
        self.shape = tuple(int(d) for d in shape)
        self.dtype = dtypes.canonicalize(dtype)
        self.weak_type = bool(weak_type)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a scalar ShapeDtypeStruct")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype.name}{', weak_type=True' if self.weak_type else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and (self.shape, self.dtype, self.weak_type) == (
            other.shape,
            other.dtype,
            other.weak_type,
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype, self.weak_type))


def eval_shape(fun: Callable, *args: Any, **kwargs: Any) -> Any:
    """Types of the result of ``fun(*args, **kwargs)`` as a pytree of `ShapeDtypeStruct`, without computing anything."""
    f = as_function("eval_shape", fun)
    asg, _, out_tree = trace_to_graph(f, args, kwargs, why="eval_shape")
    return tree_unflatten(out_tree, [ShapeDtypeStruct(t.shape, t.dtype, weak_type=t.weak_type) for t in asg.out_types])
