"""Tracebacks that show the user's frames and not asgfn's.

An uncaught exception is printed without the frames inside asgfn; `ASGFN_TRACEBACK_FILTERING=0` (or the setting
``traceback_filtering``) shows them all. Exceptions themselves are not changed.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from asgfn.config import config
from asgfn.errors import AsgError
from asgfn.tracing.source import is_internal


def filtered(error: BaseException, tb: TracebackType | None) -> TracebackType | None:
    """The traceback without asgfn's frames.

    An exception that is not asgfn's and was raised inside it is a defect of asgfn: its traceback stays whole.
    """
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    if not frames:
        return None
    if not isinstance(error, AsgError) and is_internal(frames[-1].tb_frame.f_code):
        return frames[0]
    result: TracebackType | None = None
    for t in reversed(frames):
        if not is_internal(t.tb_frame.f_code):
            result = TracebackType(result, t.tb_frame, t.tb_lasti, t.tb_lineno)
    return result or frames[0]


def install() -> None:
    """Makes Python (and IPython, where it runs) print filtered tracebacks."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> Any:
        if config.traceback_filtering:
            short = filtered(error, tb)
            error = error.with_traceback(short)
            tb = short
        return previous(kind, error, tb)

    sys.excepthook = hook
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:

        def show(shell: Any, kind: Any, error: BaseException, tb: Any, tb_offset: Any = None) -> None:
            short = filtered(error, tb) if config.traceback_filtering else tb
            shell.showtraceback((kind, error, short), tb_offset=0)

        shell.set_custom_exc((AsgError,), show)
