"""Which strips the products of a kernel have.

A product of matrices goes over the rows of a result in strips, each size by a function of its own. These are long, and
nearly all products have whole strips alone, or ones of the same rest. So a kernel says which it calls, as far as that can be
told from how its rows are computed; other sizes are done element by element, should they occur. Strips of windows are done
whole, or as half of one, whatever is left.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from backends.kernels.ir import Call, If, Kernel, Loop, Value
from backends.llvm.compiling import one_module
from backends.llvm.gemm_machine import Machine, listed
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_strip import strip_name, strip_parameters
from backends.llvm.gemm_text import Text

# what hardly ever runs need not be fast
_ATTRIBUTES = "nounwind noinline optnone"
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
            sizes = _sizes(rows, shape.mr)
            if product["windows"]:
                half, heights = shape.half_rows, _heights(columns, shape)
                sizes = {half if size <= half else height for height in heights for size in _sizes(rows, height)}
            found |= {f"{call.function}_rows_{size}" for size in sizes}
    return frozenset(found)


def _sizes(rows: Value, whole: int) -> set[int]:
    """The rows of strips, whole ones and what is left."""
    sizes = {rest for rest in _rests(rows, whole) if rest}
    exact = _exact(rows)
    return sizes | {whole} if exact is None or exact >= whole else sizes


def _heights(columns: Value, shape: GemmShape) -> frozenset[int]:
    """How many rows a whole strip of windows may have; see `gemm_windows`."""
    if not shape.joins or all(not 0 < rest <= shape.lanes for rest in _rests(columns, shape.nr)):
        return frozenset({shape.mr})
    exact = _exact(columns)
    if exact is None:
        return frozenset({shape.mr, shape.joined_rows})
    return frozenset({shape.joined_rows if shape.nr < exact <= shape.nr + shape.lanes else shape.mr})


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


def unasked(shape: GemmShape, windows: bool, sizes: Iterable[int]) -> str:
    """The module of the functions for strips of sizes that no kernel says it has, of the usual products or of those with
    windows."""
    return one_module([_one_by_one(shape, windows), *(_handed_on(shape, windows, rows) for rows in sizes)])


def _handed_on(shape: GemmShape, windows: bool, rows: int) -> str:
    """The text of the function for strips of a size, which calls that for strips of any size."""
    parameters = strip_parameters(windows)
    t = Text(f"define void @{strip_name(shape, rows, windows)}({', '.join(map(' '.join, parameters))}) {_ATTRIBUTES}")
    count = [] if windows else [("i64", rows)]
    t.call("void", strip_name(shape, "any", windows), *count, *parameters)
    return t.finish()


def _one_by_one(shape: GemmShape, windows: bool) -> str:
    """The text of the function for strips of any size. It sums elements one by one, in the same order."""
    scalar, count = shape.scalar, [] if windows else [("i64", "%count")]
    parameters = [*count, *strip_parameters(windows)]
    t = Text(f"define void @{strip_name(shape, 'any', windows)}({', '.join(map(' '.join, parameters))}) {_ATTRIBUTES}")
    machine = Machine(t, shape)

    def row(i: str, _: list[str]) -> Sequence[str]:
        a = t.at(scalar, "%a", listed(t, "%rows", i) if windows else t.mul("%a_row", i))
        c = t.at(scalar, "%c", t.mul("%c_row", i))

        def column(j: str, _: list[str]) -> Sequence[str]:
            b = t.at(scalar, "%b", t.add(t.mul(t.div(j, shape.nr), "%b_panel"), t.op(f"urem i64 {j}, {shape.nr}")))

            def step(p: str, sums: list[str]) -> Sequence[str]:
                in_a = listed(t, "%depths", p) if windows else t.mul(p, "%a_k")
                left, right = (machine.load(t.at(scalar, *x), 1) for x in ((a, in_a), (b, t.mul(p, "%b_k"))))
                return [machine.multiply_add(left, right, sums[0], 1)]

            total = t.loop(0, "%k", 1, [(scalar, "0.0")], step)[0]
            place = t.at(scalar, c, j)
            added = t.when(
                "%accumulate",
                lambda: [t.op(f"fadd {scalar} {machine.load(place, 1)}, {total}")],
                [(scalar, total)],
            )
            machine.store(added[0], place, 1)
            return ()

        t.loop(0, "%n", 1, (), column)
        return ()

    t.loop(0, "%count", 1, (), row)
    return t.finish()
