"""Matrices that the threads of a subgroup hold together, in WGSL: Tint's, or spread over threads by hand.

Source: Chromium's experimental extension, after "Subgroup Matrix", a proposal to the GPU for the Web group (2026).
"""

from __future__ import annotations

import re

from backends.kernels.ir import Memory, Value

EXTENSION = (
    "enable chromium_experimental_subgroup_matrix;",
    # which subgroup a thread is in differs in a workgroup, as it must; the analysis knows workgroups only
    "diagnostic(off, chromium.subgroup_matrix_uniformity);",
)
_TYPE = re.compile(r"subgroup_matrix_(left|right|result)<(\w+), (\d+), (\d+)>")


class Native:
    """Matrices as Tint knows them."""

    def type(self, dtype: str) -> str:
        return dtype

    def zero(self, dtype: str) -> str:
        return f"{dtype}()"

    def load(self, value: Value, at: str) -> str:
        memory, stride, by_columns = value.attr
        order = "col_major" if by_columns else "row_major"
        return f"subgroupMatrixLoad<{value.dtype}, {order}>(&{memory.name}, {at}, {stride}u)"

    def multiply(self, left: Value, right: Value, total: Value, args: list[str]) -> str:
        return f"subgroupMatrixMultiplyAccumulate({', '.join(args)})"

    def store(self, memory: Memory, at: str, value: Value, text: str, stride: int) -> str:
        return f"subgroupMatrixStore<row_major>(&{memory.name}, {at}, {text}, {stride}u);"

    def subgroup(self) -> str | None:
        """The number of a thread's subgroup; None: a built-in value says it."""
        return None

    def declarations(self) -> list[str]:
        return []


class Emulated:
    """Results are spread over the threads that are thought to be a subgroup; factors stay where they were loaded from,
    until they are multiplied. They must not be written to in between, as they are not in programs without races."""

    def __init__(self, threads: int):
        self.threads = threads  # of a subgroup
        self._functions: dict[str, list[str]] = {}

    def type(self, dtype: str) -> str:
        role, element, columns, rows = _parts(dtype)
        return f"array<{element}, {self._share(rows, columns)}>" if role == "result" else "i32"

    def zero(self, dtype: str) -> str:
        return f"{self.type(dtype)}()"

    def load(self, value: Value, at: str) -> str:
        assert _parts(value.dtype)[0] != "result"
        return at

    def multiply(self, left: Value, right: Value, total: Value, args: list[str]) -> str:
        _, element, columns, rows = _parts(total.dtype)
        depth = _parts(left.dtype)[2]
        a = _factor(left, "a", "row", "k")
        b = _factor(right, "b", "k", "column")
        name = f"multiply{len(self._functions)}"
        body = [
            f"(a: i32, b: i32, c: {self.type(total.dtype)}, lane: i32) -> {self.type(total.dtype)} {{",
            "  var total = c;",
            f"  for (var i = 0; i < {self._share(rows, columns)}; i++) {{",
            f"    let row = (lane * {self._share(rows, columns)} + i) / {columns};",
            f"    let column = (lane * {self._share(rows, columns)} + i) % {columns};",
            f"    for (var k = 0; k < {depth}; k++) {{ total[i] += {element}({a}) * {element}({b}); }}",
            "  }",
            "  return total;",
            "}",
        ]
        return f"{self._named(name, body)}({', '.join(args)}, {self._lane})"

    def store(self, memory: Memory, at: str, value: Value, text: str, stride: int) -> str:
        role, _, columns, rows = _parts(value.dtype)
        assert role == "result"
        body = [
            f"(at: i32, value: {self.type(value.dtype)}, lane: i32) {{",
            "  var m = value;",
            f"  for (var i = 0; i < {self._share(rows, columns)}; i++) {{",
            f"    let row = (lane * {self._share(rows, columns)} + i) / {columns};",
            f"    let column = (lane * {self._share(rows, columns)} + i) % {columns};",
            f"    {_element(memory, f'(at + row * {stride})', 'column')} = {memory.dtype}(m[i]);",
            "  }",
            "}",
        ]
        return f"{self._named(f'store{len(self._functions)}', body)}({at}, {text}, {self._lane});"

    def subgroup(self) -> str | None:
        """See `Native.subgroup`."""
        return f"i32(local_invocation_index / {self.threads}u)"

    def declarations(self) -> list[str]:
        return [line for name, (first, *rest) in self._functions.items() for line in (f"fn {name}{first}", *rest)]

    @property
    def _lane(self) -> str:
        return f"i32(local_invocation_index % {self.threads}u)"

    def _share(self, rows: int, columns: int) -> int:
        """How many elements of a matrix a thread has."""
        assert rows * columns % self.threads == 0
        return rows * columns // self.threads

    def _named(self, name: str, body: list[str]) -> str:
        """The name of a function with this body."""
        known = next((n for n, other in self._functions.items() if other == body), None)
        if known is None:
            self._functions[name] = body
        return known or name


def _parts(dtype: str) -> tuple[str, str, int, int]:
    """Role, type of elements, columns and rows of a matrix."""
    found = _TYPE.fullmatch(dtype)
    assert found is not None, dtype
    role, element, columns, rows = found.groups()
    return role, element, int(columns), int(rows)


def _factor(value: Value, place: str, row: str, column: str) -> str:
    """An element of a matrix that was loaded."""
    assert value.op == "load_matrix"
    memory, stride, by_columns = value.attr
    along, across = (row, column) if by_columns else (column, row)
    return _element(memory, f"({place} + {across} * {stride})", along)


def _element(memory: Memory, start: str, along: str) -> str:
    """An element of memory, counted from the start of a line."""
    if memory.width == 1:
        return f"{memory.name}[{start} + {along}]"
    return f"{memory.name}[{start} + {along} / {memory.width}][{along} % {memory.width}]"
