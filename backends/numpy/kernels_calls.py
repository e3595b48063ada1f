"""NumPy kernels of calls into Python, and of nodes that only mark values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn.primitives.check import eager_check
from backends.numpy.registry import kernel


@kernel("pure_callback")
def _(in_types: Any, out_types: Any, *, callback: Callable, **params: Any) -> Callable:
    return lambda *values: tuple(callback([np.asarray(v) for v in values], out_types))


@kernel("callback")
def _(in_types: Any, out_types: Any, *, callback: Callable, **params: Any) -> Callable:
    return lambda *values: tuple(callback([np.asarray(v) for v in values], out_types))


@kernel("stop_gradient")
def _(in_types: Any, out_types: Any) -> Callable:
    return lambda x: x


@kernel("name")
def _(in_types: Any, out_types: Any, *, name: str) -> Callable:
    return lambda x: x


@kernel("custom_vjp_linear")
def _(in_types: Any, out_types: Any, *, name: str, **params: Any) -> Callable:
    from asgfn.errors import TransformError

    raise TransformError(
        f"forward-mode differentiation of custom_vjp function {name}: its rule only gives reverse mode; use custom_jvp, which gives both"
    )


@kernel("check")
def _(in_types: Any, out_types: Any, *, site: Any, debug: bool) -> Callable:
    return eager_check(site, debug)
