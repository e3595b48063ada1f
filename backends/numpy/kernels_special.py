"""Kernels of the special functions: widen to float64, compute in cache-sized blocks, round once.

The mathematics is in `backends.numpy.special`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends.numpy import special
from backends.numpy.registry import kernel

# Elements a block: the temporaries of the longest formula stay within a core's cache.
_BLOCK = 8192


def _by_blocks(function: Callable[..., np.ndarray], operands: list[np.ndarray], out: np.ndarray) -> None:
    """Fills the flat `out` with `function` of the flat operands (of equal length)."""
    for start in range(0, out.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = function(*(operand[block].astype(np.float64, copy=False) for operand in operands))


def _register(name: str, function: Callable[..., np.ndarray]) -> None:
    @kernel(name)
    def factory(in_types: Any, out_types: Any, **params: Any) -> Callable[..., np.ndarray]:
        (out_type,) = out_types

        def run(*operands: np.ndarray) -> np.ndarray:
            flat = [np.broadcast_to(operand, out_type.shape).reshape(-1) for operand in operands]
            out = np.empty(out_type.size, out_type.dtype)
            _by_blocks(function, flat, out)
            return out.reshape(out_type.shape)

        return run


for _name in special.__all__:
    _register(_name, getattr(special, _name))
