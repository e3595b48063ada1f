"""The functions that kernels of a processor call."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from functools import lru_cache

from backends.llvm.gemm import gemm_functions
from backends.llvm.gemm_shape import GemmShape, Vectors
from backends.llvm.host import host

_CALLED = re.compile(r"@((?:gemm|gemv|pack_b)_f\d\d)\(")


@lru_cache(maxsize=4)
def product_shape(dtype: str) -> GemmShape:
    """How products of matrices of a type ("f32", "f64") are tiled here."""
    features = {f[1:]: f[0] == "+" for f in host().features.split(",") if f}
    return GemmShape.of({"f32": "float", "f64": "double"}[dtype], Vectors.of(platform.machine(), features))


@lru_cache(maxsize=4)
def _products(dtype: str) -> dict[str, str]:
    """The functions of a type by name, each with those that it calls."""
    return gemm_functions(product_shape(dtype))


def called_by(texts: Iterable[str]) -> dict[str, str]:
    """The functions of the library that some functions call, and those that these call, by name."""
    found: dict[str, str] = {}
    for dtype in sorted({name[-3:] for text in texts for name in _CALLED.findall(text)}):
        found |= _products(dtype)
    return found
