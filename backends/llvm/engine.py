"""Compiles functions written in LLVM IR into this process, and knows where they are.

Each function is an object of its own, so that a program which shares kernels with another one, or which has changed in one
place, finds the rest of them on disk. Objects are linked together when they are loaded.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from asgfn.errors import BackendError
from backends.llvm.building import Building, Object
from backends.llvm.compiling import declared
from backends.llvm.host import address_of, implied, new_target_machine, package

_kept: list[Any] = []  # what would take code with it


class Engine:
    """Machine code of this process. It stays where it is until the process ends: whoever has an address has nothing that
    could keep the code.

    Several threads may use an engine at once.

    Attributes:
        quick: addresses of functions that were compiled quickly rather than well.
    """

    def __init__(self) -> None:
        self._jit = package().create_lljit_compiler(new_target_machine(), use_jit_link=True, suppress_errors=True)
        self._addresses: dict[bytes, int] = {}  # by what a function is and what it calls
        self.quick: set[int] = set()
        self._names = itertools.count()
        _kept.append(self._jit)
        self._lock = threading.Lock()

    def compile(
        self,
        functions: Mapping[str, str],
        externals: Mapping[str, int] | None = None,
        building: Building | None = None,
        quick: Collection[str] = (),
    ) -> dict[str, int]:
        """Has functions compiled, or found on disk, and loaded.

        Arguments:
            functions: by name, each a module of LLVM IR that defines the function and declares what it calls: others of these
                functions, externals, or functions of the C library (`exp`). Small ones may share a module; see `one_module`.
            externals: addresses of other functions that these call.
            building: where some of them have been begun.
            quick: the names of those for which code will do that was compiled quickly.

        Returns:
            The functions' addresses, by name. A function that was asked for before, and calls the same ones, is where it was,
            unless it was compiled quickly and shall now be compiled well.

        Raises:
            BackendError: LLVM does not accept a function, or one calls what is not there.
            Ended: the building has no time for all of them.
        """
        externals = externals or {}
        marks = _marks(functions, externals)
        missing = {name: text for name, text in functions.items() if not self._has(marks[name], name in quick)}
        if missing:
            imports = {name: self._addresses[mark] for name, mark in marks.items() if name not in missing}
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
                found = building.objects(functions, quick)
            else:
                with Building(len(functions) - 1) as building:
                    found = building.objects(functions, quick)
            self._load(missing, dict(zip(modules, found, strict=True)), imports, marks, unknown)
        return {name: self._addresses[mark] for name, mark in marks.items()}

    def _has(self, mark: bytes, quick: bool) -> bool:
        """Whether a function is here, compiled well or, if that will do, quickly."""
        address = self._addresses.get(mark)
        return address is not None and (quick or address not in self.quick)

    def _load(
        self,
        functions: Mapping[str, str],
        code: Mapping[str, Object],
        imports: Mapping[str, int],
        marks: Mapping[str, bytes],
        unknown: list[str],
    ) -> None:
        """Links objects, by the text of the module, and enters where their functions are."""
        library = package().JITLibraryBuilder()
        for found in code.values():
            library.add_object_img(found.code)
        for name, address in imports.items():
            library.import_symbol(name, address)
        for name in functions:
            library.export_symbol(name)
        library.add_current_process()
        with self._lock:
            try:
                loaded = library.link(self._jit, f"asgfn{next(self._names)}")
            except RuntimeError as error:
                lacking = f", which call {', '.join(unknown)}" if unknown else ""
                raise BackendError(f"could not link {', '.join(functions)}{lacking}: {error}") from error
            _kept.append(loaded)
            for name, text in functions.items():
                if code[text].is_quick:
                    self.quick.add(loaded[name])
                if not self._has(marks[name], code[text].is_quick):
                    self._addresses[marks[name]] = loaded[name]


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
