"""How kernels become LLVM IR, and LLVM's options while that is compiled."""

from __future__ import annotations

import pytest

binding = pytest.importorskip("llvmlite.binding")

from backends.llvm import options  # noqa: E402
from backends.llvm.operands import Affine, Scalar, constant  # noqa: E402
from backends.llvm.writer import Writer, _factor  # noqa: E402


@pytest.mark.parametrize("divisor", [*range(1, 70), 196, 784, 1000, 3136, 50257])
@pytest.mark.parametrize("most", [1, 48, 783, 4096, 65535, 10**6])
def test_quotients_by_products(most: int, divisor: int) -> None:
    found = _factor(most, divisor)
    if found is None:
        assert most > 40_000  # its square, twice, has to fit
        return
    factor, shift = found
    edges = {q * divisor + e for q in range(max(0, most // divisor - 50), most // divisor + 1) for e in (-1, 0, 1)}
    for x in {*range(min(most, 2000) + 1), *(e for e in edges if 0 <= e <= most), most}:
        assert x * factor < 1 << 32
        assert x * factor >> shift == x // divisor


def test_only_small_numbers_are_divided_so() -> None:
    for base, word in ((Scalar("%x", "u32", below=1000), "lshr"), (Scalar("%x", "u32"), "udiv")):
        w = Writer(16)
        w.operation("div", "u32", (Affine(base, 1), constant(49, "u32")))
        assert any(word in line for line in w.lines)


def test_values_are_computed_once_where_they_are_known() -> None:
    w = Writer(16)
    with w.scope():
        first = w.value("add i32 %a, %b")
        assert w.value("add i32 %a, %b") == first
    assert w.value("add i32 %a, %b") != first


def test_options_are_ours_only_while_we_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(binding, "set_option", lambda name, option: said.append(option))
    with pytest.raises(ValueError), options.as_we_compile(), options.as_we_compile():
        assert said == ["-disable-lsr=true"]
        raise ValueError
    assert said == ["-disable-lsr=true", "-disable-lsr=false"]


def test_options_that_llvm_may_lack_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "llvm_version_info", (99, 0, 0))
    monkeypatch.setattr(binding, "set_option", lambda *_: pytest.fail("it would end the process"))
    with options.as_we_compile():
        pass
