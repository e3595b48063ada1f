"""What tests of the wgpu backend share: `compiled_checks.py` with this backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests import compiled_checks
from tests.compiled_checks import array as array
from tests.compiled_checks import assert_same as assert_same
from tests.compiled_checks import compare as compare
from tests.compiled_checks import is_native as is_native
from tests.compiled_checks import steps as steps
from tests.compiled_checks import values as values


def check(f: Callable, *args: Any, **options: Any) -> Any:
    """A function gives on the GPU what it gives with NumPy. Returns the compiled program."""
    return compiled_checks.check(f, *args, backend="wgpu", **options)
