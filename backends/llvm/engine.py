"""Compiles functions written in LLVM IR into this process, and knows where they are.

Each function is an object of its own, so that a program which shares kernels with another one, or which has changed in one
place, finds the rest of them on disk. Objects are linked together when they are loaded.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from asgfn.errors import BackendError
from backends.llvm.building import Building
from backends.llvm.compiling import declared
from backends.llvm.host import address_of, implied, new_target_machine, package

_kept: list[Any] = []  # what would take code with it


class Engine:
    """Machine code of this process. It stays where it is until the process ends: whoever has an address has nothing that
    could keep the code.

    Several threads may use an engine at once.
    """

    def __init__(self) -> None:
        self._jit = package().create_lljit_compiler(new_target_machine(), use_jit_link=True, suppress_errors=True)
        self._addresses: dict[bytes, int] = {}  # by what a function is and what it calls
        self._names = itertools.count()
        _kept.append(self._jit)
        self._lock = threading.Lock()

    def compile(
        self,
        functions: Mapping[str, str],
        externals: Mapping[str, int] | None = None,
        building: Building | None = None,
    ) -> dict[str, int]:
        """Has functions compiled, or found on disk, and loaded.

        Arguments:
            functions: by name, each a module of LLVM IR that defines the function and declares what it calls: others of these
                functions, externals, or functions of the C library (`exp`). Small ones may share a module; see `one_module`.
            externals: addresses of other functions that these call.
            building: where some of them have been begun.

        Returns:
            The functions' addresses, by name. A function that was asked for before, and calls the same ones, is where it was.

        Raises:
            BackendError: LLVM does not accept a function, or one calls what is not there.
        """
        externals = externals or {}
        marks = _marks(functions, externals)
        missing = {name: text for name, text in functions.items() if marks[name] not in self._addresses}
        if missing:
            imports = {name: self._addresses[mark] for name, mark in marks.items() if mark in self._addresses}
            unknown = []
            for name in sorted(
                set(implied()).union(*map(declared, missing.values())) - imports.keys() - missing.keys()
            ):
                address = externals.get(name) or address_of(name)
                if address:
                    imports[name] = address
                else:
                    unknown.append(name)
            modules: dict[str, str] = {}
            for name, text in missing.items():
                modules.setdefault(text, name)
            functions = {name: text for text, name in modules.items()}  # one of each module
            if building is not None:
                code = building.objects(functions)
            else:
                with Building(len(functions) - 1) as building:
                    code = building.objects(functions)
            self._load(missing, code, imports, marks, unknown)
        return {name: self._addresses[mark] for name, mark in marks.items()}

    def _load(
        self,
        names: Iterable[str],
        code: list[bytes],
        imports: Mapping[str, int],
        marks: Mapping[str, bytes],
        unknown: list[str],
    ) -> None:
        """Links objects and enters where their functions are."""
        library = package().JITLibraryBuilder()
        for data in code:
            library.add_object_img(data)
        for name, address in imports.items():
            library.import_symbol(name, address)
        for name in names:
            library.export_symbol(name)
        library.add_current_process()
        with self._lock:
            try:
                loaded = library.link(self._jit, f"asgfn{next(self._names)}")
            except RuntimeError as error:
                lacking = f", which call {', '.join(unknown)}" if unknown else ""
                raise BackendError(f"could not link {', '.join(names)}{lacking}: {error}") from error
            _kept.append(loaded)
            for name in names:
                self._addresses.setdefault(marks[name], loaded[name])


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The engine of this process.

    Raises:
        ImportError: llvmlite is not installed.
    """
    return Engine()


def _marks(functions: Mapping[str, str], externals: Mapping[str, int]) -> dict[str, bytes]:
    """A hash of each function: of its text, and of all that it calls, directly or not."""
    calls = {name: declared(text) for name, text in functions.items()}
    facts = {name: _digest(text) for name, text in functions.items()}
    found = {}
    for name in functions:
        reached, waiting = set(), [name]
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting.extend(calls.get(one, ()))
        known = (name, *((one, facts.get(one) or externals.get(one)) for one in sorted(reached)))
        found[name] = hashlib.blake2b(repr(known).encode(), digest_size=20).digest()
    return found


@lru_cache(maxsize=4096)
def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=20).digest()
