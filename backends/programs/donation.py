"""Arguments that are given away: who else sees their memory, and that they are gone afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

import numpy as np

from asgfn.graph.types import ArrayType
from asgfn.tracing import ConcreteArray, concrete


def most_references(buffers: Sequence[Any], numbers: Iterable[int]) -> int:
    """The largest number of references that one of these buffers has."""
    return max(map(sys.getrefcount, [buffers[k] for k in numbers]), default=0)


# of a buffer that an array and a list have
NOBODY_ELSE = (lambda x: most_references([x.buffer], (0,)))(concrete(np.zeros(()), ArrayType((), np.float64)))


def delete(arrays: Sequence[ConcreteArray], donated: Sequence[bool]) -> None:
    """The user's arrays that were given away are gone; but not scalars of the host, which everybody may have: `as_array` and
    `constant` remember some."""
    for x in compress(arrays, donated):
        if x.home is not None or x.aval.ndim:
            x.buffer = x.mirror = None  # as its `delete` does
