"""From the text of one function to its machine code.

Kernels arrive vectorised, with loops as they shall be and nothing computed twice; so only little is left for LLVM's optimiser:
registers for variables, and simpler branches. Its usual pipelines make programs take up to twice as long to compile, and next
to none of them faster. Most of the time goes into the selection of instructions and registers, which has no short cut.
"""

from __future__ import annotations

import ctypes
import re
from functools import lru_cache
from typing import Any

from asgfn.errors import BackendError
from backends.llvm.host import new_target_machine, package

# in the names of compiled code: a change of what is below makes other code
VERSION = 2
_LINE = re.compile(r"<string>:(\d+):\d+")


class Compiler:
    """Compiles functions, one after the other; for one thread."""

    def __init__(self) -> None:
        binding = package()
        self._machine = new_target_machine()
        options = binding.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = False
        self._builder = binding.create_pass_builder(self._machine, options)
        self._passes = _passes(binding)

    def compile(self, name: str, text: str) -> bytes:
        """The object code of a function.

        Arguments:
            name: the function's, for errors.
            text: a module of LLVM IR that defines it and declares what it calls.

        Raises:
            BackendError: it is no valid IR, or does not define the function.
        """
        binding, calls = package(), _calls()
        context = binding.create_context()
        module = self._parse(name, text, context)
        with module:
            try:
                module.verify()
                defined = not module.get_function(name).is_declaration
            except (RuntimeError, NameError) as error:
                raise _malformed(name, text, str(error)) from error
            if not defined:
                raise _malformed(name, text, f"it declares {name}, but does not define it")
            calls["LLVMPY_RunNewModulePassManager"](self._passes, module, self._builder)
            return self._emit(name, module)

    def _parse(self, name: str, text: str, context: Any) -> Any:
        binding = package()
        with binding.ffi.OutputString() as problem:
            module = _calls()["LLVMPY_ParseAssembly"](context, ctypes.c_char_p(text.encode()), problem)
            if problem:
                raise _malformed(name, text, str(problem))
        return binding.ModuleRef(module, context)

    def _emit(self, name: str, module: Any) -> bytes:
        library = package().ffi.lib
        with package().ffi.OutputString() as problem:
            memory = _calls()["LLVMPY_TargetMachineEmitToMemory"](self._machine, module, 1, problem)
            if not memory:
                raise BackendError(f"LLVM could not compile {name}: {problem}")
        try:
            return ctypes.string_at(library.LLVMPY_GetBufferStart(memory), library.LLVMPY_GetBufferSize(memory))
        finally:
            library.LLVMPY_DisposeMemoryBuffer(memory)


@lru_cache(maxsize=4096)
def declared(text: str) -> frozenset[str]:
    """What a module declares, besides LLVM's own functions; a declaration is a line."""
    found = set()
    for part in f"\n{text}".split("\ndeclare ")[1:]:
        name = part[part.index("@") + 1 : part.index("(", part.index("@"))].strip('"')
        if not name.startswith("llvm."):
            found.add(name)
    return frozenset(found)


def _passes(binding: Any) -> Any:
    passes = binding.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    return passes


@lru_cache(maxsize=1)
def _calls() -> dict[str, Any]:
    """The calls of LLVM that take time, without the lock that llvmlite puts around all of them: threads with contexts of
    their own need none."""
    library = package().ffi.lib
    free = ctypes.CDLL(library._name)
    found = {}
    for name in ("LLVMPY_ParseAssembly", "LLVMPY_RunNewModulePassManager", "LLVMPY_TargetMachineEmitToMemory"):
        locked, call = getattr(library, name), getattr(free, name)
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
