"""Which strips the products of a kernel have.

A product of matrices goes over the rows of a result in strips, each size by a function of its own. These are long, and
nearly all products have whole strips alone, or ones of the same rest. So a kernel says which it calls, as far as that can be
told from how its rows are computed; other sizes are done element by element, should they occur.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from backends.kernels.ir import Call, If, Kernel, Loop, Value
from backends.llvm.gemm_machine import Machine
from backends.llvm.gemm_shape import GemmShape
from backends.llvm.gemm_text import Text

_PRODUCT = re.compile(r"gemm_(f\d\d)")
_HEAD = re.compile(r"^define void @(?P<name>\w+_rows_(?P<rows>\d+))\((?P<parameters>.*?)\)", re.MULTILINE)


def strips_of(kernel: Kernel, whole_rows: Callable[[str], int]) -> frozenset[str]:
    """The names of the functions for the strips that a kernel's products have.

    Arguments:
        whole_rows: how many rows a whole strip has, for a type ("f32", "f64").
    """
    found: set[str] = set()
    for call in _calls(kernel.body):
        product = _PRODUCT.fullmatch(call.function)
        if product is not None:
            rows, mr = call.values()[0], whole_rows(product[1])
            sizes = {rest for rest in _rests(rows, mr) if rest}
            if rows.op != "constant" or rows.attr >= mr:
                sizes.add(mr)
            found |= {f"gemm_{product[1]}_rows_{size}" for size in sizes}
    return frozenset(found)


def _calls(body: Sequence[Any]) -> Iterator[Call]:
    for statement in body:
        if isinstance(statement, Call):
            yield statement
        elif isinstance(statement, Loop):
            yield from _calls(statement.body)
        elif isinstance(statement, If):
            yield from _calls(statement.body)
            yield from _calls(statement.otherwise)


def _rests(value: Value, of: int) -> frozenset[int]:
    """What may be left of an integer when it is divided by another one."""
    if value.op == "constant":
        return frozenset({value.attr % of})
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


def unasked(name: str, text: str) -> str:
    """The text of the function for strips of a size that no kernel says it has, given that of the function that is fast."""
    head = _HEAD.search(text)
    assert head is not None
    t = Text(head[0])
    arguments = [tuple(parameter.split(" ")) for parameter in head["parameters"].split(", ")]
    t.call("void", any_rows(name), ("i64", head["rows"]), *arguments)  # type: ignore[arg-type]
    return t.finish()


def any_rows(name: str) -> str:
    """The name of the function for strips of any size, given that of one of them."""
    return name[: name.index("_rows_")] + "_rows_any"


def one_by_one(shape: GemmShape, text: str) -> str:
    """The text of the function for strips of any size, given that of one of them. It sums elements one by one, in the same
    order."""
    head = _HEAD.search(text)
    assert head is not None
    scalar = shape.scalar
    t = Text(f"define void @{any_rows(head['name'])}(i64 %rows, {head['parameters']}) nounwind")
    machine = Machine(t, shape)

    def row(i: str, _: list[str]) -> Sequence[str]:
        a, c = (t.at(scalar, f"%{x}", t.mul(f"%{x}_row", i)) for x in "ac")

        def column(j: str, _: list[str]) -> Sequence[str]:
            b = t.at(scalar, "%b", t.add(t.mul(t.div(j, shape.nr), "%b_panel"), t.op(f"urem i64 {j}, {shape.nr}")))

            def step(p: str, sums: list[str]) -> Sequence[str]:
                left, right = (machine.load(t.at(scalar, x, t.mul(p, by)), 1) for x, by in ((a, "%a_k"), (b, "%b_k")))
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

    t.loop(0, "%rows", 1, (), row)
    return t.finish()
