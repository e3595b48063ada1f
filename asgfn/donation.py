"""Arguments that are given away, for executables that take and return NumPy's arrays."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.graph.types import ArrayType
from asgfn.tracing import ConcreteArray, concrete


def _references(x: ConcreteArray) -> int:
    return sys.getrefcount(x.buffer)


_NOBODY_ELSE = _references(concrete(np.zeros(()), ArrayType((), np.float64)))


def donated_buffers(leaves: Sequence[Any], donated: Sequence[bool]) -> list[Any]:
    """What a program is called with. Donated memory that somebody else sees too is copied: a view of it, a graph that
    holds it as a constant, NumPy, or another argument of the same call must not change when the program writes there.
    A scalar may be one of those that `as_array` and `constant` remember, so that everybody may have it."""
    often = Counter(map(id, leaves))
    shared = [
        given and (x.ndim == 0 or _references(x) > _NOBODY_ELSE or often[id(x)] > 1)
        for x, given in zip(leaves, donated or [False] * len(leaves), strict=True)
    ]
    return [
        x.value.copy() if s and type(x.buffer) is np.ndarray else x.buffer if type(x.buffer) is np.ndarray else x.value
        for x, s in zip(leaves, shared, strict=True)
    ]


def delete_donated(leaves: Sequence[Any], donated: Sequence[bool]) -> None:
    """The user's arrays that were donated are gone; but not scalars, see `donated_buffers`."""
    for x, given in zip(leaves, donated or [False] * len(leaves), strict=True):
        if given and type(x) is ConcreteArray and x.ndim:
            x.delete()
