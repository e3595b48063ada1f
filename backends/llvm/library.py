"""The functions that kernels of a processor call."""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterable
from functools import lru_cache

from backends.llvm.compiling import declared, one_module
from backends.llvm.gemm_shape import GemmShape, Vectors
from backends.llvm.host import host
from backends.programs.cache import version
from backends.programs.disk import kept

_STRIP = re.compile(r"(?P<product>gemm(?:_windows)?_(?P<dtype>f\d\d))_rows_\d+")
_TYPE = re.compile(r"(?:gemm|gemv|pack|turn)\w*_(f\d\d)(?:_rows_\d+)?")


@lru_cache(maxsize=4)
def product_shape(dtype: str) -> GemmShape:
    """How products of matrices of a type ("f32", "f64") are tiled here."""
    features = {f[1:]: f[0] == "+" for f in host().features.split(",") if f}
    return GemmShape.of({"f32": "float", "f64": "double"}[dtype], Vectors.of(platform.machine(), features))


@lru_cache(maxsize=4)
def _products(dtype: str) -> dict[str, str]:
    """The functions of a type by name, each with those that it calls."""
    shape = product_shape(dtype)

    def write() -> bytes:
        from backends.llvm.gemm import gemm_functions  # here: it is done once
        from backends.llvm.gemm_windows import windows_functions

        functions = gemm_functions(shape) | windows_functions(shape)
        return "\0".join(itertools.chain(*functions.items())).encode()

    parts = kept("library", f"{version()!r} {shape}", write).decode().split("\0")
    return dict(zip(parts[::2], parts[1::2], strict=True))


def called_by(texts: Iterable[str], complete: bool = True) -> dict[str, str]:
    """The functions of the library that some functions declare, and those that these call, by name. Of strips only the sizes
    that are declared have a function made for them (see `strips`).

    Arguments:
        complete: whether these are all functions of a program. Otherwise what does the other strips is left out: it depends on
            which strips all of them declare.
    """
    asked = set().union(*map(declared, texts))
    found: dict[str, str] = {}
    waiting = sorted(asked)
    while waiting:
        name = waiting.pop()
        kind = _TYPE.fullmatch(name)
        if kind is not None and name not in found:
            strip = _STRIP.fullmatch(name)
            if strip is None or name in asked:
                found[name] = _products(kind[1])[name]
            elif complete:
                fast = frozenset(other for other in asked if other.startswith(f"{strip['product']}_rows_"))
                found[name] = _slow(strip["product"], strip["dtype"], fast)
            waiting += sorted(declared(found.get(name, "")))
    return found


@lru_cache(maxsize=64)
def _slow(product: str, dtype: str, fast: frozenset[str]) -> str:
    """The module of the functions for a product's strips of other sizes than those that are fast."""
    from backends.llvm import strips

    functions = _products(dtype)
    one = strips.one_by_one(product_shape(dtype), functions[f"{product}_rows_1"])
    others = [name for name in functions if name.startswith(f"{product}_rows_") and name not in fast]
    return one_module([one, *(strips.unasked(name, functions[name]) for name in others)])
