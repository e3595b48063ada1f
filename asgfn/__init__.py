"""asgfn: pure functions as graphs, and transforms of graphs.

    import asgfn
    import asgfn.numpy as jnp

    def loss(w, x, y):
        return jnp.mean((x @ w - y) ** 2)

    step = asgfn.jit(asgfn.grad(loss))

Functions are traced into graphs (`Asg`); `grad`, `vmap`, `jit` and the rest turn graphs into graphs and compose in any order.
Names, arguments and meaning are JAX's.
"""

from typing import TYPE_CHECKING, Any

from asgfn import dtypes as dtypes
from asgfn import errors as errors
from asgfn import lax as lax
from asgfn import numpy as numpy
from asgfn import tree as tree
from asgfn import tree_util as tree_util
from asgfn.backend import available_backends as available_backends
from asgfn.backend import get_backend as get_backend
from asgfn.backend import register_backend as register_backend
from asgfn.config import check_tracer_leaks as check_tracer_leaks
from asgfn.config import checking_leaks as checking_leaks
from asgfn.config import config as config
from asgfn.config import debug_infs as debug_infs
from asgfn.config import debug_nans as debug_nans
from asgfn.config import default_matmul_precision as default_matmul_precision
from asgfn.config import disable_jit as disable_jit
from asgfn.config import enable_x64 as enable_x64
from asgfn.config import numpy_dtype_promotion as numpy_dtype_promotion
from asgfn.config import numpy_rank_promotion as numpy_rank_promotion
from asgfn.graph import ArrayType as ArrayType
from asgfn.graph import Asg as Asg
from asgfn.graph import Node as Node
from asgfn.jit import jit as jit
from asgfn.placement import block_until_ready as block_until_ready
from asgfn.placement import clear_caches as clear_caches
from asgfn.placement import default_backend as default_backend
from asgfn.placement import device_count as device_count
from asgfn.placement import device_get as device_get
from asgfn.placement import device_put as device_put
from asgfn.placement import devices as devices
from asgfn.placement import effects_barrier as effects_barrier
from asgfn.placement import ensure_compile_time_eval as ensure_compile_time_eval
from asgfn.placement import local_devices as local_devices
from asgfn.primitives.callbacks import pure_callback as pure_callback
from asgfn.tracing import Array as Array
from asgfn.tracing import tracebacks as _tracebacks
from asgfn.tracing import type_of as _type_of
from asgfn.transforms.checkpoint import checkpoint as checkpoint
from asgfn.transforms.checkpoint import checkpoint_policies as checkpoint_policies
from asgfn.transforms.checkpoint import remat as remat
from asgfn.transforms.closures import closure_convert as closure_convert
from asgfn.transforms.closures import custom_gradient as custom_gradient
from asgfn.transforms.custom_jvp import custom_jvp as custom_jvp
from asgfn.transforms.custom_vjp import custom_vjp as custom_vjp
from asgfn.transforms.differentiate import grad as grad
from asgfn.transforms.differentiate import jvp as jvp
from asgfn.transforms.differentiate import linear_transpose as linear_transpose
from asgfn.transforms.differentiate import linearize as linearize
from asgfn.transforms.differentiate import value_and_grad as value_and_grad
from asgfn.transforms.differentiate import vjp as vjp
from asgfn.transforms.function import trace as trace
from asgfn.transforms.fwd_and_bwd import fwd_and_bwd as fwd_and_bwd
from asgfn.transforms.jacobians import hessian as hessian
from asgfn.transforms.jacobians import jacfwd as jacfwd
from asgfn.transforms.jacobians import jacobian as jacobian
from asgfn.transforms.jacobians import jacrev as jacrev
from asgfn.transforms.naming import named_call as named_call
from asgfn.transforms.naming import named_scope as named_scope
from asgfn.transforms.shapes import ShapeDtypeStruct as ShapeDtypeStruct
from asgfn.transforms.shapes import eval_shape as eval_shape
from asgfn.transforms.simplify import simplify as simplify
from asgfn.transforms.vmap import vmap as vmap

if TYPE_CHECKING:
    from asgfn import nn as nn
    from asgfn import ops as ops
    from asgfn import plot as plot
    from asgfn import random as random
    from asgfn import scipy as scipy
    from asgfn.transforms.fuse import fuse as fuse

make_jaxpr = trace
typeof = _type_of

__version__ = "0.1.0"

_tracebacks.install()


def _picture(graph: Asg) -> str | None:
    """What a notebook shows for a graph that is small enough to read."""
    if len(graph.nodes) > 300:
        return None
    from asgfn.plot.notebook import asg_to_svg

    return asg_to_svg(graph)


Asg._repr_svg_ = _picture  # type: ignore[attr-defined]

# loaded when first used: importing asgfn stays fast
_LAZY = frozenset(
    (
        "ad_checkpoint",
        "custom_batching",
        "custom_derivatives",
        "debug",
        "experimental",
        "graph",
        "nn",
        "ops",
        "plot",
        "random",
        "scipy",
        "test_util",
        "transforms",
        "typing",
    )
)


def __getattr__(name: str) -> Any:
    if name == "fuse":
        from asgfn.transforms.fuse import fuse

        return fuse
    if name in _LAZY:
        import importlib

        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "fuse"})
