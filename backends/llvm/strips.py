"""Which strips the products of a kernel have.

A product of matrices goes over the rows of a result in strips, each size by a function of its own. These are long, and
nearly all products have whole strips alone, or ones of the same rest. So a kernel says which it calls, as far as that can be
told from how its rows are computed; other sizes are done row by row, should they occur.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from backends.kernels.ir import Call, If, Kernel, Loop, Value

_PRODUCT = re.compile(r"gemm_(f\d\d)")
_ROWS = re.compile(r"_rows_(\d+)$")
_HEAD = re.compile(r"^define void @\w+\((.*?)\)", re.MULTILINE)


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


def row_by_row(name: str, one: str) -> str:
    """The text of a strip's function that goes through its rows, given that of the strip of one row."""
    rows = _ROWS.search(name)
    head = _HEAD.search(one)
    assert rows is not None and head is not None
    scalar = "float" if "_f32_" in name else "double"
    types = [parameter.split(" ")[0] for parameter in head[1].split(", ")]
    given = [parameter.split(" ")[-1] for parameter in head[1].split(", ")]
    passed = [{"%a": "%a.row", "%c": "%c.row"}.get(x, x) for x in given]
    callee = name[: rows.start()] + "_rows_1"
    return f"""
declare void @{callee}({", ".join(types)})
define void @{name}({head[1]}) noinline nounwind {{
entry:
  br label %row
row:
  %i = phi i64 [ 0, %entry ], [ %next, %row ]
  %a.offset = mul i64 %i, %a_row
  %c.offset = mul i64 %i, %c_row
  %a.row = getelementptr {scalar}, ptr %a, i64 %a.offset
  %c.row = getelementptr {scalar}, ptr %c, i64 %c.offset
  call void @{callee}({", ".join(f"{t} {x}" for t, x in zip(types, passed, strict=True))})
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, {rows[1]}
  br i1 %more, label %row, label %end
end:
  ret void
}}
"""
