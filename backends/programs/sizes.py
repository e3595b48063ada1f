"""Bytes of the memories of programs."""

from __future__ import annotations

from asgfn.graph.types import ArrayType
from backends.kernels.target import Target


def padded(nbytes: int, target: Target) -> int:
    """Bytes of memory that so many bytes take."""
    return -(-nbytes // target.unit) * target.unit


def storage_bytes(aval: ArrayType, target: Target) -> int:
    """Bytes of an array in the device's representation, padded."""
    return padded(aval.size * target.types.numpy_storage(aval.dtype).itemsize, target)
