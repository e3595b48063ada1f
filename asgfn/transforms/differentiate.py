"""`grad` and its family, for functions on pytrees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from asgfn import dtypes
from asgfn.errors import NotAnArrayError, StructureError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Linear, Zero, instantiate_zeros, tangent_type
from asgfn.tracing import Array, as_array, type_of
from asgfn.transforms.forward import jvp_run
from asgfn.transforms.function import (
    argument_name,
    as_function,
    function_name,
    trace_to_graph,
)
from asgfn.transforms.interpret import constant_arrays, run
from asgfn.transforms.linear import linearize_run, transpose_run
from asgfn.transforms.traced import Traced, at_positions, check_like, float0_zeros, leaf_paths
from asgfn.tree_util import (
    keystr,
    register_pytree_node,
    tree_flatten,
    tree_flatten_with_path,
    tree_structure,
    tree_unflatten,
)


def jvp(fun: Callable, primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> tuple:
    """Value and directional derivative of a function.

    Arguments:
        primals: the arguments, a tuple or list.
        tangents: the direction, with the structure, shapes and dtypes of `primals` (float0 for integers).
        has_aux: `fun` returns (output, aux); aux is passed through.

    Returns:
        (output, tangent of the output), and aux if `has_aux`.

    Raises:
        StructureError, ShapeError, TransformError: tangents do not match the primals.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise StructureError(
            f"jvp: primals and tangents must be tuples or lists of arguments, got {type(primals).__name__} and {type(tangents).__name__}"
        )
    _, tree = tree_flatten(tuple(primals))
    given, given_tree = tree_flatten(tuple(tangents))
    if tree != given_tree:
        raise StructureError(f"jvp: tangents must have the structure of the primals: got {given_tree} for {tree}")
    t = Traced("jvp", fun, primals, has_aux)
    ts = check_like("jvp: the tangent", [x.aval for x in t.leaves], given, leaf_paths("primals", tree))
    args = [*t.leaves, *t.captured]
    ts += [Zero(tangent_type(x.aval)) for x in t.captured]
    outs, moved = jvp_run(t.asg, args, ts)
    out, aux = t.outputs(outs)
    tangent = tree_unflatten(t.out_tree, [instantiate_zeros(x) for x in moved[: t.n_out]])
    return (out, tangent, aux) if has_aux else (out, tangent)


def linearize(fun: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """Value of a function and its derivative there as a linear function.

    Returns:
        (output, f_jvp), and aux if `has_aux`: ``f_jvp(*tangents)`` gives the tangent of the output without running
        `fun` again.
    """
    t = Traced("linearize", fun, primals, has_aux)
    nonzero = [dtypes.is_inexact(x.dtype) for x in t.leaves] + [False] * len(t.captured)
    outs, linear, residuals, present = linearize_run(t.asg, [*t.leaves, *t.captured], nonzero)
    out, aux = t.outputs(outs)
    types = [x.aval for x in t.leaves]
    out_types = t.asg.out_types[: t.n_out]

    def f_jvp(*tangents: Any) -> Any:
        given, tree = tree_flatten(tuple(tangents))
        if tree != t.in_tree:
            raise StructureError(
                f"linearize: tangents must have the structure of the primals: got {tree} for {t.in_tree}"
            )
        ts = check_like("linearize: the tangent", types, given, leaf_paths("primals", t.in_tree))
        moved = iter(run(linear, [instantiate_zeros(x) for x, nz in zip(ts, nonzero, strict=False) if nz] + residuals))
        found = [next(moved) if p else None for p in present][: t.n_out]
        return tree_unflatten(
            t.out_tree,
            [
                instantiate_zeros(Zero(tangent_type(a))) if x is None else x
                for x, a in zip(found, out_types, strict=True)
            ],
        )

    return (out, f_jvp, aux) if has_aux else (out, f_jvp)


class Pullback(NamedTuple):
    """The static part of a reverse derivative: everything but the residuals."""

    linear: Asg  # from tangents and residuals to tangents
    differentiable: tuple[bool, ...]  # which input leaves have tangents
    present: tuple[bool, ...]  # which outputs have tangents
    in_types: tuple[ArrayType, ...]

    def __call__(self, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        """One cotangent an input leaf (`Zero` where there is none)."""
        n = sum(self.differentiable)
        operands = [*(Linear(a) for a in self.linear.inputs[:n]), *residuals]
        padded = [*cts, *([None] * (len(self.present) - len(cts)))]
        found = iter(
            transpose_run(self.linear, operands, [ct for ct, p in zip(padded, self.present, strict=True) if p])[:n]
        )
        return [
            next(found) if d else Zero(tangent_type(t)) for d, t in zip(self.differentiable, self.in_types, strict=True)
        ]


def vjp_parts(
    name: str, f: Callable, args: Sequence[Any], has_aux: bool, positions: Sequence[int] | None = None
) -> tuple[Traced, list[Any], Pullback, list[Any]]:
    """Traced function, its flat outputs, the static part of its derivative, and the residuals."""
    t = Traced(name, f, args, has_aux, positions)
    differentiable = tuple(dtypes.is_inexact(x.dtype) for x in t.leaves)
    nonzero = [*differentiable, *([False] * len(t.captured))]
    outs, linear, residuals, present = linearize_run(t.asg, [*t.leaves, *t.captured], nonzero)
    # known residuals are constants of the linear graph; as inputs they leave it static, and value ids stay as they are
    residuals = [*residuals, *constant_arrays(linear)]
    linear = linear.replace(inputs=(*linear.inputs, *linear.constant_types), constants=(), constant_types=())
    return t, outs, Pullback(linear, differentiable, present, tuple(x.aval for x in t.leaves)), residuals


class VjpFunction:
    """The pullback that `vjp` returns: from cotangents of the output to a tuple of cotangents of the arguments.

    It is a pytree whose leaves are the residuals, so it can be returned from jitted functions, carried and stored.
    """

    def __init__(
        self, pull: Pullback, residuals: Sequence[Any], in_tree: Any, out_tree: Any, out_types: tuple[ArrayType, ...]
    ):
        self._pull = pull
        self.residuals = list(residuals)
        self._in_tree = in_tree
        self._out_tree = out_tree
        self._out_types = out_types

    def __call__(self, out_ct: Any) -> tuple:
        leaves, tree = tree_flatten(out_ct)
        if tree != self._out_tree:
            raise StructureError(
                f"vjp: the cotangent must have the structure of the output: got {tree} for {self._out_tree}"
            )
        cts = check_like("vjp: the cotangent", self._out_types, leaves, leaf_paths("output", self._out_tree))
        return tree_unflatten(self._in_tree, [instantiate_zeros(ct) for ct in self._pull(self.residuals, cts)])

    def __repr__(self) -> str:
        return f"<vjp function of {self._pull.linear.name}, {len(self.residuals)} residuals>"


register_pytree_node(
    VjpFunction,
    lambda v: (tuple(v.residuals), (v._pull, v._in_tree, v._out_tree, v._out_types)),
    lambda static, residuals: VjpFunction(static[0], residuals, *static[1:]),
)


def vjp(fun: Callable, *primals: Any, has_aux: bool = False, reduce_axes: Sequence = ()) -> tuple:
    """Value of a function and its pullback.

    Returns:
        (output, vjp_fun), and aux if `has_aux`: ``vjp_fun(ct)`` takes a cotangent with the structure of the output and
        gives a tuple with a cotangent for each of `primals`.
    """
    t, outs, pull, residuals = vjp_parts("vjp", fun, primals, has_aux)
    out, aux = t.outputs(outs)
    vjp_fun = VjpFunction(pull, residuals, t.in_tree, t.out_tree, t.asg.out_types[: t.n_out])
    return (out, vjp_fun, aux) if has_aux else (out, vjp_fun)


def check_argnums(name: str, f: Any, argnums: Any, n_args: int) -> tuple[int, ...]:
    nums = (argnums,) if isinstance(argnums, (int, np.integer)) else tuple(argnums)
    if not all(isinstance(n, (int, np.integer)) for n in nums):
        raise TypeError(f"{name}({function_name(f)}): argnums must be an int or a sequence of ints, got {argnums!r}")
    if not nums:
        raise ValueError(f"{name}({function_name(f)}): argnums is empty, so there is nothing to differentiate")
    resolved = tuple(int(n) + n_args if n < 0 else int(n) for n in nums)
    if any(not 0 <= n < n_args for n in resolved):
        raise ValueError(
            f"{name}({function_name(f)}): argnums={argnums} but the function was called with {n_args} positional arguments"
        )
    return resolved


def check_differentiable(
    name: str, f: Any, args: Sequence[Any], positions: Sequence[int], holomorphic: bool, allow_int: bool
) -> None:
    for k, arg in zip(positions, args, strict=True):
        for path, leaf in tree_flatten_with_path(arg)[0]:
            try:
                dtype = type_of(leaf).dtype
            except NotAnArrayError as error:
                raise NotAnArrayError(
                    f"{name}({function_name(f)}): argument {argument_name(f, k)}{keystr(path)}: {error.args[0]}"
                ) from None
            where = f"{name}({function_name(f)}): argument {argument_name(f, k)}{keystr(path)}"
            if holomorphic:
                if not dtypes.is_complex(dtype):
                    raise TransformError(
                        f"{where} has dtype {dtype.name}: with holomorphic=True inputs must be complex"
                    )
            elif dtypes.is_complex(dtype):
                if name in ("jacfwd",):
                    raise TransformError(
                        f"{where} has dtype {dtype.name}: {name} of a complex input needs holomorphic=True"
                    )
            elif not dtypes.is_inexact(dtype) and not allow_int:
                raise TransformError(
                    f"{where} has dtype {dtype.name}: {name} requires real or complex inputs. "
                    "Convert it (x.astype(float), or write 3.0 instead of 3), choose other argnums, or pass allow_int=True for float0 gradients"
                )


def value_and_grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence = (),
) -> Callable:
    """A function that gives both the value of a scalar function and its gradient.

    Arguments:
        fun: returns a real scalar (with `has_aux` a pair of it and anything else).
        argnums: which positional arguments to differentiate; an int gives a gradient with the structure of that argument,
            a sequence a tuple of gradients.
        holomorphic: the function is holomorphic and complex.
        allow_int: permit integer arguments; their gradients have dtype float0.

    Returns:
        a function with fun's arguments that returns ``(value, gradient)``, with `has_aux` ``((value, aux), gradient)``.

    Raises (when called):
        TransformError: the output is not a scalar, or an input or the output has a dtype that cannot be differentiated.
    """
    return _value_and_grad("value_and_grad", fun, argnums, has_aux, holomorphic, allow_int)


def _value_and_grad(name: str, fun: Any, argnums: Any, has_aux: bool, holomorphic: bool, allow_int: bool) -> Callable:
    f = as_function(name, fun)

    @wraps(f, updated=())
    def value_and_grad_f(*args: Any, **kwargs: Any) -> tuple:
        nums = check_argnums(name, f, argnums, len(args))
        chosen = [args[n] for n in nums]
        check_differentiable(name, f, chosen, nums, holomorphic, allow_int)

        partial = at_positions(f, args, nums, kwargs)
        t, outs, pull, residuals = vjp_parts(name, partial, chosen, has_aux)
        out, aux = t.outputs(outs)
        _check_scalar(name, f, out, t, holomorphic)
        one = as_array(np.ones((), t.asg.out_types[0].dtype))
        cts = [
            instantiate_zeros(ct) if ct.dtype != dtypes.float0 else float0_zeros(ct.aval)
            for ct in pull(residuals, [one])
        ]
        parts = tree_unflatten(t.in_tree, cts)
        gradient = parts[0] if isinstance(argnums, (int, np.integer)) else tuple(parts)
        return ((out, aux), gradient) if has_aux else (out, gradient)

    return value_and_grad_f


def _check_scalar(name: str, f: Any, out: Any, t: Traced, holomorphic: bool) -> None:
    if not isinstance(out, Array):
        hint = "; to return more than the loss, use has_aux=True" if isinstance(out, (tuple, list, dict)) else ""
        raise TransformError(
            f"{name}({function_name(f)}): the function must return a scalar, but it returned a {type(out).__name__}{hint}"
        )
    aval = out.aval
    if aval.shape:
        raise TransformError(
            f"{name}({function_name(f)}): gradients are defined for scalar outputs, but the function returned {aval}. "
            "Reduce it (for example with .sum() or .mean()), or use jacrev, jacfwd or vjp for arrays"
        )
    if holomorphic:
        if not dtypes.is_complex(aval.dtype):
            raise TransformError(
                f"{name}({function_name(f)}): with holomorphic=True the output must be complex, got {aval}"
            )
    elif dtypes.is_complex(aval.dtype):
        raise TransformError(
            f"{name}({function_name(f)}): the output {aval} is complex: take its real part or magnitude, or pass holomorphic=True if the function is"
        )
    elif not dtypes.is_floating(aval.dtype):
        raise TransformError(
            f"{name}({function_name(f)}): the output must be a floating point scalar, got {aval}; it has no gradient"
        )


def grad(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    reduce_axes: Sequence = (),
) -> Callable:
    """The gradient of a scalar function. Arguments as for `value_and_grad`.

    Returns:
        a function with fun's arguments that returns the gradient, with `has_aux` ``(gradient, aux)``.

    Example:
        >>> import asgfn
        >>> float(asgfn.grad(lambda x: x ** 3)(2.0))
        12.0
    """
    both = _value_and_grad("grad", fun, argnums, has_aux, holomorphic, allow_int)

    @wraps(both, updated=())
    def grad_f(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_f


def linear_transpose(fun: Callable, *primals: Any, reduce_axes: Sequence = ()) -> Callable:
    """The transpose of a linear function. `primals` only tell shapes and dtypes (arrays or `ShapeDtypeStruct`s).

    Returns:
        a function from a cotangent with the structure of fun's output to a tuple with one a primal.
    """
    f = as_function("linear_transpose", fun)
    asg, captured, out_tree = trace_to_graph(f, primals, why="linear_transpose")
    types = [type_of(x) for x in tree_flatten(tuple(primals))[0]]
    in_tree = tree_structure(tuple(primals))
    if any(not dtypes.is_inexact(t.dtype) for t in (*types, *asg.out_types)):
        raise TransformError(
            f"linear_transpose({function_name(f)}): inputs and outputs must be floating point or complex, got {', '.join(map(str, types))} -> {', '.join(map(str, asg.out_types))}"
        )

    def transposed(out_ct: Any) -> tuple:
        leaves, tree = tree_flatten(out_ct)
        if tree != out_tree:
            raise StructureError(
                f"linear_transpose: the cotangent must have the structure of the output: got {tree} for {out_tree}"
            )
        cts = check_like("linear_transpose: the cotangent", asg.out_types, leaves, leaf_paths("output", out_tree))
        found = transpose_run(asg, [*(Linear(t) for t in types), *captured], cts)[: len(types)]
        return tree_unflatten(in_tree, [instantiate_zeros(ct) for ct in found])

    return transposed
