"""Loading the GPU's library without parsing its header.

The `wgpu` package has cffi parse two thousand lines of C each time that it is imported, which takes a fifth of a second
of Python. cffi can do that once and give the outcome as a table; it is kept on disk (see `backends.programs.disk`), and the
next process starts from it. Where anything does not look as expected, the package loads its library as it always does.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import threading
from pathlib import Path
from typing import Any

from backends.programs.disk import folder, read_entry, write_entry

_MODULE = "wgpu.backends.wgpu_native._ffi"
# arguments of cffi's constructor, and the types that they have
_TABLE = {
    "_version": int, "_types": bytes, "_globals": tuple, "_struct_unions": tuple, "_enums": tuple, "_typenames": tuple,
}  # fmt: skip


def load_library() -> None:
    """Imports the module of the `wgpu` package that holds its library, the fast way if there is one."""
    where = folder()
    if where is None or _MODULE in sys.modules:
        return
    try:
        import cffi
        import wgpu

        header = (Path(wgpu.__path__[0]) / "resources" / "combined_header.h").read_text()
    except (ImportError, OSError):
        return
    key = hashlib.blake2b(
        f"{cffi.__version__} {sys.implementation.cache_tag} {header}".encode(), digest_size=20
    ).hexdigest()
    path = where / "library" / f"{key}.types"
    table = _decoded(read_entry(path))
    if table is not None:
        _import_with(table, header)
    elif _import() and (made := _table_of(sys.modules[_MODULE].ffi)) is not None:
        import msgpack

        write_entry(path, msgpack.packb(made, use_bin_type=True))


def _import() -> bool:
    import importlib

    try:
        importlib.import_module(_MODULE)
    except (ImportError, OSError):  # whoever asks for an adapter is told
        return False
    return True


def _import_with(table: dict[str, Any], header: str) -> None:
    """Imports the module, whose `cffi.FFI()` is this one."""
    import cffi
    from _cffi_backend import FFI  # the class of what cffi compiles

    class Ready(FFI):  # type: ignore[misc, valid-type]
        def cdef(self, text: str, *args: Any, **options: Any) -> None:
            if text != header:
                raise ImportError(f"{_MODULE}: not the header that was expected")

        def set_source(self, *args: Any, **options: Any) -> None:
            """Nothing will be compiled."""

    usual, here = cffi.FFI, threading.get_ident()

    def made(*args: Any, **options: Any) -> Any:
        # other threads may import what they like
        return Ready("wgpu.h", **table) if threading.get_ident() == here else usual(*args, **options)

    cffi.FFI = made
    try:
        worked = _import()
    finally:
        cffi.FFI = usual
    if not worked:
        sys.modules.pop(_MODULE, None)


def _table_of(ffi: Any) -> dict[str, Any] | None:
    """What cffi has made of the header; None if this is another kind of object."""
    try:
        from cffi.recompiler import make_py_source

        text = io.StringIO()
        make_py_source(ffi, "wgpu_h", text)
        (call,) = [node for node in ast.walk(ast.parse(text.getvalue())) if isinstance(node, ast.Call)]
        table = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    return table if _is_table(table) else None


def _decoded(data: bytes | None) -> dict[str, Any] | None:
    if data is None:
        return None
    import msgpack

    try:
        table = msgpack.unpackb(data, raw=False, use_list=False)
    except Exception:  # msgpack raises errors of many kinds
        return None
    return table if _is_table(table) else None


def _is_table(table: Any) -> bool:
    return isinstance(table, dict) and {k: type(v) for k, v in table.items()} == _TABLE
