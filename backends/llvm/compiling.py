"""From the text of one function to its machine code.

Kernels arrive vectorised, with loops as they shall be, values named once and nothing computed twice; so nothing is left for
LLVM's optimiser. Its usual pipelines make programs take up to twice as long to compile, and next to none of them faster. Most
of the time goes into the selection of instructions and registers. It takes about 0.6 of the time without optimisations: a
kernel then takes up to 1.6 times as long, and computes the same, bit by bit.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from asgfn.errors import BackendError
from backends.llvm.host import new_target_machine, package
from backends.llvm.options import as_we_compile, use_registers

# in the names of compiled code: a change of what is below makes other code
VERSION = 4
_NAME = re.compile(r"@[\w.]+")
_LINE = re.compile(r"<string>:(\d+):\d+")


class Compiler:
    """Compiles functions, one after the other; for one thread at a time."""

    def __init__(self) -> None:
        self._machines: dict[bool, Any] = {}

    def compile(self, name: str, text: str, quick: bool = False) -> bytes:
        """The object code of a function.

        Arguments:
            name: the function's, for errors.
            text: a module of LLVM IR that defines it and declares what it calls.
            quick: whether to be done soon is better than fast code.

        Raises:
            BackendError: it is no valid IR, or does not define the function.
        """
        calls = _calls()
        context = calls["ContextCreate"]()
        try:
            with _Problem() as problem:
                module = calls["ParseAssembly"](context, text.encode(), problem.place)
                if not module or problem.text:
                    raise _malformed(name, text, problem.text)
            try:
                return self._compile(name, text, module, quick)
            finally:
                calls["DisposeModule"](module)
        finally:
            calls["ContextDispose"](context)

    def _compile(self, name: str, text: str, module: Any, quick: bool) -> bytes:
        calls = _calls()
        with _Problem() as problem:
            if calls["VerifyModule"](module, problem.place):
                raise _malformed(name, text, problem.text)
        function = calls["GetNamedFunction"](module, name.encode())
        if not function or calls["IsDeclaration"](function):
            raise _malformed(name, text, f"it does not define {name}")
        with as_we_compile(quick), _Problem() as problem:
            memory = calls["TargetMachineEmitToMemory"](self._machine(quick), module, 1, problem.place)
            if not memory:
                raise BackendError(f"LLVM could not compile {name}: {problem.text}")
        try:
            return ctypes.string_at(calls["GetBufferStart"](memory), calls["GetBufferSize"](memory))
        finally:
            calls["DisposeMemoryBuffer"](memory)

    def _machine(self, quick: bool) -> Any:
        found = self._machines.get(quick)
        if found is None:
            if quick:
                use_registers()
            found = self._machines[quick] = new_target_machine(quick)
        return found


# those that no thread uses: what one makes for its first function takes as long as half a small function
_idle: list[Compiler] = []
_MOST_IDLE = 4


@contextmanager
def a_compiler() -> Iterator[Compiler]:
    """A compiler that nobody else uses meanwhile."""
    try:
        compiler = _idle.pop()
    except IndexError:
        compiler = Compiler()
    try:
        yield compiler
    finally:
        if len(_idle) < _MOST_IDLE:
            _idle.append(compiler)


class _Problem:
    """What LLVM says about a call that fails: a string that it makes."""

    def __init__(self) -> None:
        self._string = ctypes.c_char_p()
        self.place = ctypes.byref(self._string)

    @property
    def text(self) -> str:
        return (self._string.value or b"").decode(errors="replace")

    def __enter__(self) -> _Problem:
        return self

    def __exit__(self, *_: object) -> None:
        if self._string:
            _calls()["DisposeString"](self._string)


@lru_cache(maxsize=4096)
def declared(text: str) -> frozenset[str]:
    """What a module declares, besides LLVM's own functions; a declaration is a line."""
    found = set()
    for part in f"\n{text}".split("\ndeclare ")[1:]:
        name = part[part.index("@") + 1 : part.index("(", part.index("@"))].strip('"')
        if not name.startswith("llvm."):
            found.add(name)
    return frozenset(found)


def one_module(texts: Iterable[str]) -> str:
    """The module that defines what several do: to compile it takes less time, if they are small."""
    declarations: dict[str, None] = {}
    rest = []
    for line in "\n".join(texts).splitlines():
        if line.startswith("declare "):
            declarations[line] = None
        else:
            rest.append(line)
    defined = {_NAME.search(line)[0] for line in rest if line.startswith("define ")}  # type: ignore[index]
    needed = [line for line in declarations if _NAME.search(line)[0] not in defined]  # type: ignore[index]
    return "\n".join([*needed, *rest, ""])


# those that take time: meanwhile another thread may have Python
_LONG = ("ParseAssembly", "TargetMachineEmitToMemory")
_SHORT = (
    "ContextCreate", "ContextDispose", "VerifyModule", "GetNamedFunction", "IsDeclaration",
    "GetBufferStart", "GetBufferSize", "DisposeMemoryBuffer", "DisposeModule", "DisposeString",
)  # fmt: skip


@lru_cache(maxsize=1)
def _calls() -> dict[str, Any]:
    """LLVM's functions, without the lock that llvmlite puts around all of them: threads with contexts of their own need none.
    Nor do they give Python up for each of the short ones: it takes milliseconds to have it again while another thread
    computes."""
    library = package().ffi.lib
    found = {}
    for names, load in ((_LONG, ctypes.CDLL), (_SHORT, ctypes.PyDLL)):
        loaded = load(library._name)
        for name in names:
            locked, call = getattr(library, f"LLVMPY_{name}"), getattr(loaded, f"LLVMPY_{name}")
            call.argtypes, call.restype = locked.argtypes, locked.restype
            found[name] = call
    return found


def _malformed(name: str, text: str, problem: str) -> BackendError:
    """The error for IR that LLVM does not take, with the line at which it stopped."""
    place = _LINE.search(problem)
    lines = text.splitlines()
    shown = ""
    if place is not None and 0 < int(place[1]) <= len(lines):
        shown = f"\nline {place[1]} of its IR: {lines[int(place[1]) - 1].strip()}"
    return BackendError(
        f"LLVM does not accept the function {name}: {problem.strip()}{shown}\n"
        "This is a bug in asgfn's cpu backend: please report it. backend='numpy' runs the same program"
    )
