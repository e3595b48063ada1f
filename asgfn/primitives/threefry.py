"""`threefry2x32`: the counter-based random function from which every random bit is made.

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011): a
keyed bijection of 64-bit blocks. Equal keys and counters give equal words on every backend and in any order of
evaluation, so the same seed gives the same numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn.errors import DTypeError, ShapeError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, move_batch_axis, no_derivative, primitive

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def _type_rule(key0: ArrayType, key1: ArrayType, word0: ArrayType, word1: ArrayType) -> tuple[ArrayType, ArrayType]:
    operands = (key0, key1, word0, word1)
    if any(t.dtype != np.uint32 for t in operands):
        names = ", ".join(t.dtype.name for t in operands)
        raise DTypeError(f"threefry2x32 works on uint32 words, got {names}; make keys with asgfn.random.key(seed)")
    try:
        shape = np.broadcast_shapes(*(t.shape for t in operands))
    except ValueError:
        shapes = ", ".join(str(t.shape) for t in operands)
        raise ShapeError(f"threefry2x32: the shapes of keys and counters do not broadcast: {shapes}") from None
    out = ArrayType(shape, np.dtype(np.uint32))
    return out, out


def _batch(args: Sequence[Any], dims: Sequence[int | None]) -> tuple[Any, tuple[int, int]]:
    # Shapes align at their ends, so a mapped operand of lower rank gets unit axes behind its batch axis.
    rank = max(x.ndim - (d is not None) for x, d in zip(args, dims, strict=True))
    aligned = []
    for x, d in zip(args, dims, strict=True):
        if d is not None:
            x = move_batch_axis(x, d, 0)
            missing = rank - (x.ndim - 1)
            if missing:
                shape = (x.shape[0], *(1,) * missing, *x.shape[1:])
                kept = (0, *range(missing + 1, rank + 1))
                x = primitive("broadcast_in_dim").bind(x, shape=shape, broadcast_dimensions=kept)
        aligned.append(x)
    return threefry2x32_p.bind(*aligned), (0, 0)


threefry2x32_p = Primitive(
    "threefry2x32",
    category="random",
    type_rule=_type_rule,
    jvp=no_derivative("threefry2x32"),
    batch=_batch,
    multiple_results=True,
    what="Scrambles counters with a key into pseudo-random words; equal inputs always give equal words.",
    formula="(y0, y1) = Threefry-2x32-20(key, counter)",
    why="Random numbers that do not depend on the order of evaluation, the device or earlier calls.",
)


def threefry2x32(key0: Any, key1: Any, word0: Any, word1: Any) -> tuple[Any, Any]:
    """Two pseudo-random words for each pair of counter words.

    Arguments:
        key0, key1: the two halves of a key, uint32.
        word0, word1: the high and low halves of the counters, uint32. All four shapes broadcast as in NumPy.

    Returns:
        Two uint32 arrays of the broadcast shape.
    """
    return threefry2x32_p.bind(key0, key1, word0, word1)
