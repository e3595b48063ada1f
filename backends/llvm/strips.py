"""Which strips the products of a kernel have.

A product of matrices goes over the rows of a result in strips: whole ones, and for the rest a whole or half one that has
fewer rows than it could. Each has a function of its own, which takes long to compile. So a kernel says which it calls, as far
as that can be told from how its rows are computed; a strip of another size is handed on to those, should it occur.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from backends.kernels.ir import Call, If, Kernel, Loop, Value
from backends.llvm.compiling import one_module
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_strip import strip_name, strip_parameters, strip_sizes
from backends.llvm.gemm_text import Text

# what hardly ever runs need not be fast
_ATTRIBUTES = "nounwind noinline optnone"
# strips of which one that is not needed in full is few
_LONG = 20
_PRODUCT = re.compile(r"gemm(?P<windows>_windows)?_(?P<dtype>f\d\d)")
_EXACT: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "min": min,
    "max": max,
}


def strips_of(kernel: Kernel, shape_of: Callable[[str], GemmShape]) -> frozenset[str]:
    """The names of the functions for the strips that a kernel's products have.

    Arguments:
        shape_of: how products are tiled, for a type ("f32", "f64").
    """
    found: set[str] = set()
    for call in _calls(kernel.body):
        product = _PRODUCT.fullmatch(call.function)
        if product is not None:
            rows, columns, *_ = call.operands()
            shape = shape_of(product["dtype"])
            heights, half = _heights(columns, shape), 0 if _is_long(rows, shape) else shape.half_rows
            sizes = {half if size <= half else height for height in heights for size in _sizes(rows, height)}
            found |= {f"{call.function}_rows_{size}" for size in sizes or heights}
    return frozenset(found)


def _sizes(rows: Value, whole: int) -> set[int]:
    """The rows of strips, whole ones and what is left."""
    sizes = {rest for rest in _rests(rows, whole) if rest}
    exact = _exact(rows)
    return sizes | {whole} if exact is None or exact >= whole else sizes


def _heights(columns: Value, shape: GemmShape) -> frozenset[int]:
    """How many rows a whole strip may have."""
    if not shape.joins or all(not 0 < rest <= shape.lanes for rest in _rests(columns, shape.nr)):
        return frozenset({shape.mr})
    exact = _exact(columns)
    if exact is None:
        return frozenset({shape.mr, shape.joined_rows})
    return frozenset({shape.joined_rows if shape.nr < exact <= shape.nr + shape.lanes else shape.mr})


def _is_long(rows: Value, shape: GemmShape) -> bool:
    """Whether there are so many rows, in all pieces, that a whole strip for the last ones takes no time worth a function."""
    total = _exact(rows)
    if total is None and rows.op == "sub" and rows.args[0].op == "min":
        end, first = rows.args
        for one, other in (
            end.args,
            end.args[::-1],
        ):  # pieces from a first row on, which end where there are no more rows
            if one.op == "add" and first in one.args and _rests(one.args[one.args[0] is first], shape.mr) == {0}:
                total = _exact(other)
    return total is not None and total >= _LONG * shape.mr


def _calls(body: Sequence[Any]) -> Iterator[Call]:
    for statement in body:
        if isinstance(statement, Call):
            yield statement
        elif isinstance(statement, Loop):
            yield from _calls(statement.body)
        elif isinstance(statement, If):
            yield from _calls(statement.body)
            yield from _calls(statement.otherwise)


def _exact(value: Value) -> int | None:
    """An integer that is always the same, such as the length of pieces that are all whole."""
    if value.op == "constant":
        return value.attr
    if value.op not in _EXACT:
        return None
    a, b = value.args
    x, y = _exact(a), _exact(b)
    return None if x is None or y is None else _EXACT[value.op](x, y)


def _rests(value: Value, of: int) -> frozenset[int]:
    """What may be left of an integer when it is divided by another one."""
    exact = _exact(value)
    if exact is not None:
        return frozenset({exact % of})
    if value.op in ("min", "max"):
        a, b = (_rests(x, of) for x in value.args)
        return a | b
    if value.op == "select":
        return _rests(value.args[1], of) | _rests(value.args[2], of)
    if value.op in ("add", "sub", "mul"):
        a, b = (_rests(x, of) for x in value.args)
        sign = -1 if value.op == "sub" else 1
        return frozenset((x * y if value.op == "mul" else x + sign * y) % of for x in a for y in b)
    return frozenset(range(of))


def unasked(shape: GemmShape, windows: bool, asked: Iterable[int]) -> str:
    """The module of the functions for strips of sizes that no kernel says it has, of the usual products or of those with
    windows."""
    *_, most = sorted(asked) or [0]
    assert most, "a product has strips of some size"
    return one_module([_handed_on(shape, windows, rows, most) for rows in strip_sizes(shape) if rows not in asked])


def _handed_on(shape: GemmShape, windows: bool, rows: int, to: int) -> str:
    """The text of the function for strips of a size, which calls that for strips of another one."""
    scalar, parameters = shape.scalar, strip_parameters(windows)
    t = Text(f"define void @{strip_name(shape, rows, windows)}({', '.join(map(' '.join, parameters))}) {_ATTRIBUTES}")

    def part(i: str, _: list[str]) -> Sequence[str]:
        changed = {"%count": t.least(t.sub("%count", i), to), "%c": t.at(scalar, "%c", t.mul("%c_row", i))}
        if windows:
            changed["%rows"] = t.at("i32", "%rows", i)
        else:
            changed["%a"] = t.at(scalar, "%a", t.mul("%a_row", i))
        t.call("void", strip_name(shape, to, windows), *((kind, changed.get(name, name)) for kind, name in parameters))
        return ()

    t.loop(0, "%count", to, (), part)
    return t.finish()
