"""`PRNGKeyArray`: random keys as a type of their own."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from asgfn.dtypes import prng_key as prng_key
from asgfn.errors import AxisError
from asgfn.tree.keys import GetAttrKey
from asgfn.tree.registry import register_pytree_with_keys


class KeyDType:
    """The dtype of a `PRNGKeyArray`. There is one, `key<fry>`: keys of the Threefry generator."""

    name = "key<fry>"
    itemsize = 8
    type = prng_key
    dtype = np.dtype((prng_key, [("words", np.uint32, (2,))]))  # what NumPy takes it for, as in issubdtype

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyDType)

    def __hash__(self) -> int:
        return hash(KeyDType)


class PRNGKeyArray:
    """An immutable array of random keys.

    It is a pytree node with one leaf, the keys' words: a uint32 array of shape `(*shape, 2)`. So it passes through
    `jit`, `grad`, `scan` and `cond` like any container, and `vmap` maps its axes from the front.
    """

    __slots__ = ("_base_array",)
    __hash__ = None  # type: ignore[assignment]

    _base_array: Any

    def __init__(self, key_data: Any) -> None:
        # Not checked: transforms rebuild nodes around things that are no arrays. `wrap_key_data` checks.
        object.__setattr__(self, "_base_array", key_data)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("key arrays are immutable")

    def __reduce__(self) -> tuple:
        return PRNGKeyArray, (self._base_array,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self._base_array.shape[:-1]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of keys."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> KeyDType:
        """`key<fry>`."""
        return _DTYPE

    @property
    def itemsize(self) -> int:
        """Bytes that one key takes."""
        return _DTYPE.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes that the keys take."""
        return _DTYPE.itemsize * self.size

    @property
    def T(self) -> PRNGKeyArray:
        """The keys with all axes in reverse order."""
        return self.transpose()

    def __repr__(self) -> str:
        return f"Array({self.shape}, dtype={_DTYPE.name}) overlaying:\n{self._base_array}"

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a single random key")
        return self.shape[0]

    def __iter__(self) -> Iterator[PRNGKeyArray]:
        if not self.ndim:
            raise TypeError(
                "a single random key cannot be iterated over; make several with asgfn.random.split(key, num)"
            )
        return (PRNGKeyArray(self._base_array[i]) for i in range(self.shape[0]))

    def __getitem__(self, index: Any) -> PRNGKeyArray:
        index = index if isinstance(index, tuple) else (index,)
        if not any(part is Ellipsis for part in index):
            index = (*index, Ellipsis)
        return PRNGKeyArray(self._base_array[(*index, slice(None))])

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, PRNGKeyArray):
            return NotImplemented
        return (self._base_array == other._base_array).all(-1)

    def __ne__(self, other: object) -> Any:
        if not isinstance(other, PRNGKeyArray):
            return NotImplemented
        return (self._base_array != other._base_array).any(-1)

    def __bool__(self) -> bool:
        raise TypeError("a random key has no truth value")

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("random keys are not numbers: asgfn.random.key_data(key) gives their uint32 words")

    def reshape(self, *shape: Any) -> PRNGKeyArray:
        """The keys in another shape; one length may be -1."""
        if len(shape) == 1 and not hasattr(shape[0], "__index__"):
            shape = tuple(shape[0])
        return PRNGKeyArray(self._base_array.reshape((*shape, 2)))

    def ravel(self) -> PRNGKeyArray:
        """The keys along one axis."""
        return self.reshape(self.size)

    def flatten(self) -> PRNGKeyArray:
        """The keys along one axis."""
        return self.reshape(self.size)

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> PRNGKeyArray:
        """The keys without axes of length 1: all of them, or those given."""
        if axis is None:
            axes = {i for i, length in enumerate(self.shape) if length == 1}
        else:
            axes = {self._axis(a) for a in (axis if isinstance(axis, tuple) else (axis,))}
        if any(self.shape[i] != 1 for i in axes):
            raise AxisError(
                f"squeeze: cannot remove axes {sorted(axes)} of keys of shape {self.shape}: not of length 1"
            )
        return self.reshape(tuple(length for i, length in enumerate(self.shape) if i not in axes))

    def transpose(self, *axes: Any) -> PRNGKeyArray:
        """The keys with their axes in the given order (reversed by default)."""
        if len(axes) == 1 and not hasattr(axes[0], "__index__"):
            axes = tuple(axes[0] or ())
        order = tuple(self._axis(a) for a in axes) if axes else tuple(reversed(range(self.ndim)))
        return PRNGKeyArray(self._base_array.transpose((*order, self.ndim)))

    def swapaxes(self, axis1: int, axis2: int) -> PRNGKeyArray:
        """The keys with two axes exchanged."""
        order = list(range(self.ndim))
        a, b = self._axis(axis1), self._axis(axis2)
        order[a], order[b] = order[b], order[a]
        return self.transpose(tuple(order))

    def copy(self) -> PRNGKeyArray:
        """The keys themselves: they are immutable."""
        return self

    def block_until_ready(self) -> PRNGKeyArray:
        """Waits until the keys have been computed. Returns them."""
        self._base_array.block_until_ready()
        return self

    def _axis(self, axis: Any) -> int:
        position = operator.index(axis)
        if not -self.ndim <= position < self.ndim:
            raise AxisError(f"axis {position} is out of range for keys of shape {self.shape}")
        return position % self.ndim


_DTYPE = KeyDType()

register_pytree_with_keys(
    PRNGKeyArray,
    lambda keys: (((GetAttrKey("_base_array"), keys._base_array),), None),
    lambda _, children: PRNGKeyArray(children[0]),
)
