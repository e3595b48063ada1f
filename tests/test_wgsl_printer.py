"""Kernels as WGSL: what has to be enabled, and how deep expressions are nested."""

from __future__ import annotations

from backends.kernels.ir import F16, F32, I32, Builder, Kernel, Value
from backends.wgsl import DAWN, NAGA, source


def printed(b: Builder, value: Value, dialect=NAGA) -> str:
    """A kernel that stores a value."""
    out = b.argument("out", value.dtype, 1)
    b.store(out, b.constant(0, I32), value)
    kernel = Kernel("k", b.memories, b.body, (1, 1, 1), (1, 1, 1), features=frozenset(b.features))
    return source(kernel, dialect)


def test_16_bit_floats_are_enabled_where_they_are_used():
    single, half = Builder(), Builder()
    assert "f16" not in printed(single, single.constant(0.5, F32))
    assert printed(half, half.constant(0.5, F16)).startswith("enable f16;\n")
    # in a variable only, of which memory knows nothing
    b = Builder()
    number = b.variable(b.constant(0.5, F16))
    text = printed(b, b.op("convert", b.read(number), dtype=F32))
    assert text.startswith("enable f16;\n") and "var r1: f16 = 0.5h;" in text


def test_subgroups_are_enabled_for_those_who_want_it():
    for dialect in (NAGA, DAWN):
        b = Builder()
        b.features.add("subgroups")
        text = printed(b, b.op("subgroup_add", b.load(b.argument("x", F32, 1), b.constant(0, I32))), dialect)
        assert ("enable subgroups;" in text) == (dialect is DAWN)


def test_expressions_are_not_nested_deeper_than_compilers_like():
    b = Builder()
    x = b.load(b.argument("x", F32, 1), b.constant(0, I32))
    for k in range(1000):
        x = b.op("add", b.op("sin", x), b.constant(k / 8, F32))
    text = printed(b, x)
    deepest = depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    assert deepest <= 60 and text.count("sin(") == 1000
