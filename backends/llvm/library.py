"""The functions that kernels of a processor call."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from asgfn.graph.asg import Asg
from backends.llvm.building import Building
from backends.llvm.compiling import declared
from backends.llvm.gemm_shape import GemmShape, Vectors
from backends.llvm.host import host
from backends.programs.cache import files_of, source_hash, version
from backends.programs.disk import entry_path, folder, is_writable, kept, read_entry, write_entry

_STRIP = re.compile(r"(gemm(?:_windows)?_f\d\d)_rows_(\d+)")
_CONTRACTIONS = ("dot_general", "conv_general_dilated")
_PRODUCTS = {"float32": "f32", "float64": "f64"}
_TYPE = re.compile(r"(?:copy|gemm|gemv|gevm|pack|pad|put|turn)\w*_(f\d\d)(?:_rows_\d+)?")


@lru_cache(maxsize=4)
def product_shape(dtype: str) -> GemmShape:
    """How products of matrices of a type ("f32", "f64") are tiled here."""
    features = {f[1:]: f[0] == "+" for f in host().features.split(",") if f}
    return GemmShape.of({"f32": "float", "f64": "double"}[dtype], Vectors.of(platform.machine(), features))


@lru_cache(maxsize=1)
def _source() -> bytes:
    """A hash of what writes the functions."""
    return source_hash(files_of([Path(__file__).parent]))


@lru_cache(maxsize=256)
def _function(name: str, dtype: str) -> str:
    """The module of a function."""
    shape = product_shape(dtype)

    def write() -> bytes:
        from backends.llvm.gemm import gemm_functions  # here: it is done once
        from backends.llvm.gemm_windows import windows_functions

        return (gemm_functions(shape) | windows_functions(shape))[name]().encode()

    return kept("library", f"{_source()!r} {shape} {name}", write).decode()


@lru_cache(maxsize=64)
def _other_strips(product: str, dtype: str, fast: frozenset[int]) -> str:
    """The module of the functions for a product's strips of other sizes than those that are fast."""
    shape = product_shape(dtype)

    def write() -> bytes:
        from backends.llvm.strips import unasked  # here: it is done once

        return unasked(shape, "windows" in product, fast).encode()

    return kept("library", f"{_source()!r} {shape} {product} {sorted(fast)}", write).decode()


def called_by(texts: Iterable[str], complete: bool = True) -> dict[str, str]:
    """The functions of the library that some functions declare, and those that these call, by name. Of strips only the sizes
    that are declared have a function made for them (see `strips`).

    Arguments:
        complete: whether these are all functions of a program. Otherwise what does the other strips is left out: it depends on
            which strips all of them declare.
    """
    return _with_called(set().union(*map(declared, texts)), complete)


def expected(asg: Asg) -> dict[str, str]:
    """The functions, by name, that nearly any program calls which has the products and convolutions of a graph: to compile
    them takes longer than to find out what else it calls."""
    asked: set[str] = set()
    for node in asg.nodes:
        t = _PRODUCTS.get(node.out_types[0].dtype.name) if node.primitive.name in _CONTRACTIONS else None
        if t is not None:
            rows = product_shape(t).mr
            asked |= {f"gemm_{t}", f"gemm_{t}_rows_{rows}", f"pack_b_{t}"}
            if node.primitive.name == "conv_general_dilated":
                asked |= {f"gemm_windows_{t}", f"gemm_windows_{t}_rows_{rows}", f"pad_{t}"}
    found = _with_called(asked, complete=False)
    for graph in asg.inner:
        found |= expected(graph)
    return found


def prepared(others: Mapping[str, str]) -> Iterator[None]:
    """Compiles, one by one, the functions for numbers of 32 bits and some others, by name, where they can be kept and are not:
    they are the same for all programs, and products take long to compile."""
    where = folder()
    if where is None or not is_writable(where):
        return
    done = entry_path(where, "prepared", f"{version()!r} {host()}")
    if read_entry(done) is not None:
        return
    from backends.llvm.gemm import gemm_functions  # here: it is done once
    from backends.llvm.gemm_windows import windows_functions

    def texts() -> Iterator[tuple[str, str]]:
        yield from others.items()
        for name in gemm_functions(shape) | windows_functions(shape):
            yield name, _function(name, "f32")

    shape = product_shape("f32")
    begun = set()
    for name, text in texts():
        if text not in begun:
            begun.add(text)
            with Building(0) as building:
                building.objects({name: text})
            yield
    write_entry(done, b"")


def _with_called(asked: set[str], complete: bool) -> dict[str, str]:
    """Functions, and those that they call."""
    found: dict[str, str] = {}
    waiting = sorted(asked)
    while waiting:
        name = waiting.pop()
        kind = _TYPE.fullmatch(name)
        if kind is not None and name not in found:
            strip = _STRIP.fullmatch(name)
            if strip is None or name in asked:
                found[name] = _function(name, kind[1])
            elif complete:
                strips = [other for other in map(_STRIP.fullmatch, asked) if other and other[1] == strip[1]]
                found[name] = _other_strips(strip[1], kind[1], frozenset(int(other[2]) for other in strips))
            waiting += sorted(declared(found.get(name, "")))
    return found
