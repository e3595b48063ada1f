"""Modules of a package import each other in one direction: whoever reads one never comes back to it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imports_of(path: Path, names: set[str]) -> set[str]:
    """The modules, among these, that a file imports anywhere: at the top, in a function, for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{a.name}" for a in node.names}
            found |= inner & names
            if not inner <= names:
                found.add(node.module)
    return found & names


def circles(package: str) -> dict[str, set[str]]:
    """Modules that can be reached from themselves, or lead to such ones."""
    folder = ROOT / package.replace(".", "/")
    modules = {package if p.stem == "__init__" else f"{package}.{p.stem}": p for p in folder.glob("*.py")}
    left = {m: imports_of(p, set(modules)) - {m} for m, p in modules.items()}
    while free := [m for m, needed in left.items() if not needed & left.keys()]:
        for m in free:
            del left[m]
    return {m: needed & left.keys() for m, needed in left.items()}


@pytest.mark.parametrize("package", ["backends.wgpu", "backends.wgsl", "backends.numpy"])
def test_modules_import_in_one_direction(package: str) -> None:
    assert circles(package) == {}


def test_circles_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "__init__.py").write_text("from p.a import x")
    (tmp_path / "p" / "a.py").write_text("def f():\n    from p import b")
    (tmp_path / "p" / "b.py").write_text("import p.c")
    (tmp_path / "p" / "c.py").write_text("x = 1")
    assert circles("p") == {}
    (tmp_path / "p" / "c.py").write_text("from p.a import f")
    assert set(circles("p")) == {"p", "p.a", "p.b", "p.c"}
