"""Where in the user's program an operation was asked for."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType

from asgfn.graph.types import SourceInfo

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_HERE = os.path.dirname(_ROOT.rstrip(os.sep)) + os.sep
# asgfn's own frames, and those of the packages that its users do not look into
_INTERNAL_DIRS = (_ROOT, os.path.join(_HERE, "backends") + os.sep, os.path.join(_HERE, "nn_fn") + os.sep)
_INTERNAL_FILES = ("functools.py", "contextlib.py")
_internal: dict[str, bool] = {}  # by file


def is_internal(code: CodeType) -> bool:
    """Whether a code object belongs to asgfn rather than to the user."""
    file = code.co_filename
    try:
        return _internal[file]
    except KeyError:
        result = (
            file.startswith(_INTERNAL_DIRS)
            or file.startswith("<asgfn")
            or (os.path.basename(file) in _INTERNAL_FILES and os.path.dirname(file) == os.path.dirname(os.__file__))
        )
        _internal[file] = result
        return result


def user_source(depth: int = 1) -> SourceInfo | None:
    """The innermost frame of the current stack that is the user's."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        internal = _internal.get(code.co_filename)
        if internal is None:
            internal = is_internal(code)
        if not internal:
            return SourceInfo(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return None
