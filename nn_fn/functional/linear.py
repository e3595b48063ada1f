"""Linear and bilinear maps over the last axis."""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.tracing import Array
from nn_fn.functional.arguments import float_array, same_dtype


def linear(x: Any, weight: Any, bias: Any = None) -> Array:
    """x weight + bias.

    Arguments:
        x: float [..., in].
        weight: float [in, out] (PyTorch's is [out, in]), or [in] for a result without the last axis.
        bias: float [out], or a scalar with a weight [in]; None for none.

    Returns:
        [..., out].

    Raises:
        ShapeError: shapes do not fit.
        DTypeError: an operand is not floating point, or their dtypes differ.
    """
    x, weight = float_array("linear", "x", x), float_array("linear", "weight", weight)
    bias = None if bias is None else float_array("linear", "bias", bias)
    same_dtype("linear", x=x, weight=weight, bias=bias)
    if weight.ndim not in (1, 2):
        raise ShapeError(f"linear: weight must be [in, out] or [in], got {weight.aval}")
    if x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        hint = ""
        if x.ndim and weight.ndim == 2 and x.shape[-1] == weight.shape[1]:
            hint = ". The weight is [in, out] here, the transpose of PyTorch's: pass weight.T"
        raise ShapeError(
            f"linear: the last axis of x must have the length of the first of weight, got x {x.aval} and weight "
            f"{weight.aval}{hint}"
        )
    y = x @ weight
    if bias is None:
        return y
    if bias.shape != weight.shape[1:]:
        raise ShapeError(f"linear: bias must be {list(weight.shape[1:])} for weight {weight.aval}, got {bias.aval}")
    return y + bias


def bilinear(x1: Any, x2: Any, weight: Any, bias: Any = None) -> Array:
    """out[o] = sum over i, j of x1[i] weight[o, i, j] x2[j], plus bias[o].

    Arguments:
        x1, x2: float [..., in1] and [..., in2], with the same leading axes.
        weight: float [out, in1, in2].
        bias: float [out] or None.

    Returns:
        [..., out].

    Raises:
        ShapeError: shapes do not fit.
        DTypeError: an operand is not floating point, or their dtypes differ.
    """
    x1, x2 = float_array("bilinear", "x1", x1), float_array("bilinear", "x2", x2)
    weight = float_array("bilinear", "weight", weight)
    bias = None if bias is None else float_array("bilinear", "bias", bias)
    same_dtype("bilinear", x1=x1, x2=x2, weight=weight, bias=bias)
    shown = f"got x1 {x1.aval}, x2 {x2.aval}, weight {weight.aval}"
    if weight.ndim != 3 or x1.ndim == 0 or x2.ndim == 0 or (x1.shape[-1], x2.shape[-1]) != weight.shape[1:]:
        raise ShapeError(f"bilinear: operands must be [..., in1], [..., in2] and [out, in1, in2]; {shown}")
    if x1.shape[:-1] != x2.shape[:-1]:
        raise ShapeError(f"bilinear: x1 and x2 must have the same leading axes; {shown}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"bilinear: bias must be [{weight.shape[0]}], one number an output; got {bias.aval}")
    y = jnp.einsum("...oj,...j->...o", jnp.einsum("...i,oij->...oj", x1, weight), x2)
    return y if bias is None else y + bias
