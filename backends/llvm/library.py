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


_CALL = re.compile(r"call ([^@]+) @([\w.]+)\(([^)]*)\)")
_ARGUMENT = re.compile(r"(<[^>]*>|\w+)[^,]*")


@lru_cache(maxsize=4)
def _products(dtype: str) -> dict[str, str]:
    """The functions of a type by name, each with those that it calls."""
    shape = product_shape(dtype)
    texts = gemm_functions(shape)
    public = {name: text for name, text in texts.items() if "_rows_" not in name}
    inner = "\n".join(text for name, text in texts.items() if "_rows_" in name)
    found = {}
    for name, text in public.items():
        whole = f"{text}\n{inner}" if "_rows_" in text else text
        found[name] = "\n".join([*_declarations(whole), whole])
    return found


def _declarations(text: str) -> list[str]:
    """Declarations of what LLVM has, as far as a text calls it."""
    called = {
        f"declare {result} @{name}({', '.join(t for t in _ARGUMENT.findall(arguments))})"
        for result, name, arguments in _CALL.findall(text)
        if name.startswith("llvm.")
    }
    return sorted(called)


def called_by(texts: Iterable[str]) -> dict[str, str]:
    """The functions of the library that some functions call, by name."""
    names = {name for text in texts for name in _CALLED.findall(text)}
    return {name: _products(name[-3:])[name] for name in sorted(names)}
