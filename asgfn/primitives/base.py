"""`Primitive`: everything the graph level knows about one operation, stated in one place.

Rules:

* ``type_rule(*types, **params)`` gives the type of the result (a tuple of types when `multiple_results`), or raises an
  `AsgError` that says what was expected.
* ``jvp(primals, tangents, **params)`` gives result and tangent; tangents may be `Zero`.
* ``transpose(ct, *operands, **params)`` gives a cotangent (or None) an operand; operands in which the operation is
  linear arrive as `Linear` placeholders.
* ``batch(args, dims, **params)`` applies the operation to arguments with an extra axis (at `dims[i]`, None where
  there is none) and gives result and the position of its extra axis.
* ``linearize(primals, tangents, **params)`` is needed only by primitives that hold graphs: like `jvp`, but with
  everything that does not depend on the tangents computed outside of what does. Others are split by tracing alone.
* ``axis_batch(axis, args, dims, **params)`` is `batch` for primitives that hold graphs or name axes: it is told the
  mapped axis (`axis.name`, `axis.size`).

How a primitive is *computed* is a backend's business.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, GraphError, ShapeError
from asgfn.graph.asg import inner_graphs
from asgfn.graph.serial import set_primitive_lookup
from asgfn.graph.types import ArrayType
from asgfn.tracing import bind, concrete

CATEGORIES = (
    "input", "constant", "arithmetic", "transcendental", "activation", "comparison", "logical", "reduction", "contraction",
    "window", "shape", "indexing", "linalg", "fft", "sort", "random", "control", "call", "callback", "convert",
)  # fmt: skip

_registry: dict[str, Primitive] = {}


class Primitive:
    """One operation. See the module's text for the rules."""

    def __init__(
        self,
        name: str,
        *,
        category: str,
        type_rule: Callable[..., Any],
        jvp: Callable[..., Any] | None = None,
        transpose: Callable[..., Any] | None = None,
        batch: Callable[..., Any] | None = None,
        linearize: Callable[..., Any] | None = None,
        axis_batch: Callable[..., Any] | None = None,
        multiple_results: bool = False,
        effect: bool = False,
        holds_graphs: bool = False,
        what: str = "",
        formula: str = "",
        why: str = "",
    ):
        if category not in CATEGORIES:
            raise ValueError(f"primitive {name}: category {category!r} is not one of {CATEGORIES}")
        if name in _registry:
            raise ValueError(f"a primitive named {name!r} exists already")
        self.name = name
        self.category = category
        self.type_rule = type_rule
        self.jvp = jvp
        self.transpose = transpose
        self.batch = batch
        self.linearize = linearize
        self.axis_batch = axis_batch
        self.multiple_results = multiple_results
        self.effect = effect
        self.holds_graphs = holds_graphs
        self.what = what
        self.formula = formula
        self.why = why
        _registry[name] = self

    def bind(self, *args: Any, **params: Any) -> Any:
        """Applies the primitive: evaluates it, or records a node."""
        return bind(self, *args, **params)

    def is_effectful(self, params: Any) -> bool:
        """Whether a node with these parameters must be kept although nobody reads its results."""
        return self.effect or (self.holds_graphs and any(g.has_effects for g in inner_graphs(params)))

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return primitive, (self.name,)


def primitive(name: str) -> Primitive:
    """The primitive of this name.

    Raises:
        GraphError: there is none.
    """
    found = _registry.get(name)
    if found is None:
        _declare_all()
        found = _registry.get(name)
    if found is None:
        raise GraphError(f"there is no primitive named {name!r}")
    return found


def _declare_all() -> None:
    """Imports every module that declares primitives: some are loaded only when first used."""
    for name in ("asgfn.primitives", "asgfn.control", "asgfn.transforms"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)


set_primitive_lookup(primitive)


def all_primitives() -> dict[str, Primitive]:
    """Every primitive by name."""
    _declare_all()
    return dict(_registry)


# ---------------------------------------------------------------------------------------------- symbolic zeros
class Zero:
    """A tangent or cotangent that is zero and was never computed. `aval` is its type."""

    __slots__ = ("aval",)

    def __init__(self, aval: ArrayType):
        self.aval = aval

    def __repr__(self) -> str:
        return f"Zero({self.aval})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype


def is_zero(x: Any) -> bool:
    return type(x) is Zero


class Linear:
    """Stands for an operand in which an operation is linear, in transpose rules."""

    __slots__ = ("aval",)

    def __init__(self, aval: ArrayType):
        self.aval = aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return self.aval.ndim

    def __repr__(self) -> str:
        return f"Linear({self.aval})"


def is_linear(x: Any) -> bool:
    return type(x) is Linear


def tangent_type(t: ArrayType) -> ArrayType:
    """The type of tangents and cotangents of values of this type: float0 for integers and booleans."""
    if dtypes.is_inexact(t.dtype):
        return t.update(weak_type=False) if t.weak_type else t
    return ArrayType(t.shape, dtypes.float0)


def zeros_like_type(t: ArrayType) -> Any:
    """An array of zeros of this type, as a broadcast scalar. For float0, NumPy zeros that hold nothing."""
    if t.dtype == dtypes.float0:
        return np.zeros(t.shape, dtypes.float0)
    scalar = concrete(np.zeros((), t.dtype), ArrayType((), t.dtype, t.weak_type))
    if not t.shape:
        return scalar
    return primitive("broadcast_in_dim").bind(scalar, shape=t.shape, broadcast_dimensions=())


def instantiate_zeros(x: Any) -> Any:
    """A `Zero` as an array of zeros; anything else unchanged."""
    return zeros_like_type(x.aval) if type(x) is Zero else x


def add_tangents(x: Any, y: Any) -> Any:
    """Sum of two tangents or cotangents, either of which may be `Zero` (or None, which counts as such)."""
    if x is None or type(x) is Zero:
        return y
    if y is None or type(y) is Zero:
        return x
    return primitive("add").bind(x, y)


# ---------------------------------------------------------------------------------------------- common rules
def linear_jvp(prim_name: str) -> Callable:
    """The jvp rule of a primitive that is linear in all operands together: apply it to the tangents."""

    def rule(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
        prim = primitive(prim_name)
        out = prim.bind(*primals, **params)
        return out, prim.bind(*map(instantiate_zeros, tangents), **params)

    return rule


def no_derivative(prim_name: str) -> Callable:
    """The jvp rule of a primitive whose derivative is zero wherever it exists (comparisons, floor, ...)."""

    def rule(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
        prim = primitive(prim_name)
        out = prim.bind(*primals, **params)
        if prim.multiple_results:
            return out, tuple(Zero(tangent_type(o.aval)) for o in out)
        return out, Zero(tangent_type(out.aval))

    return rule


def move_batch_axis(x: Any, source: int, target: int) -> Any:
    """x with its axis `source` moved to position `target`."""
    ndim = x.ndim
    source %= ndim
    target %= ndim
    if source == target:
        return x
    order = [i for i in range(ndim) if i != source]
    order.insert(target, source)
    return primitive("transpose").bind(x, permutation=tuple(order))


def bdim_at_front(x: Any, dim: int | None, size: int) -> Any:
    """x with its batch axis in front; where it has none, it is broadcast along a new one of this size."""
    if dim is not None:
        return move_batch_axis(x, dim, 0)
    return broadcast_front(x, size)


def broadcast_front(x: Any, size: int) -> Any:
    """x repeated along a new leading axis."""
    return primitive("broadcast_in_dim").bind(
        x, shape=(size, *x.shape), broadcast_dimensions=tuple(range(1, x.ndim + 1))
    )


def batch_size(args: Sequence[Any], dims: Sequence[int | None]) -> int:
    """The length of the batch axis."""
    return next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)


# ---------------------------------------------------------------------------------------------- element-wise
_KIND_TESTS = {
    "float": dtypes.is_floating,
    "complex": dtypes.is_complex,
    "int": dtypes.is_integer,
    "signed": dtypes.is_signed_integer,
    "unsigned": dtypes.is_unsigned_integer,
    "bool": dtypes.is_bool,
}
ANY = ("bool", "int", "float", "complex")
NUMBER = ("int", "float", "complex")
REAL = ("int", "float")
INEXACT = ("float", "complex")
FLOAT = ("float",)
BITS = ("bool", "int")


def check_dtype(name: str, dtype: np.dtype, kinds: Sequence[str], position: int = 0) -> None:
    """Raises DTypeError unless the dtype is of one of these kinds."""
    if not any(_KIND_TESTS[k](dtype) for k in kinds):
        words = {
            "float": "floating point",
            "int": "integer",
            "bool": "boolean",
            "signed": "signed integer",
            "unsigned": "unsigned integer",
        }
        wanted = " or ".join(words.get(k, k) for k in kinds)
        fix = (
            "convert it first, for example with x.astype(float)"
            if "float" in kinds
            else "convert it first with x.astype(...)"
        )
        raise DTypeError(
            f"{name} does not accept dtype {dtype.name} for operand {position}: it takes {wanted} arrays; {fix}"
        )


def broadcast_type(name: str, types: Sequence[ArrayType], dtype: np.dtype | None = None) -> ArrayType:
    """The type of an element-wise result: operands have one shape and dtype, rank-0 operands broadcast.

    Raises:
        ShapeError, DTypeError: naming all operands.
    """
    shape: tuple[int, ...] = ()
    for t in types:
        if t.shape != shape and t.shape:
            if shape:
                shapes = ", ".join(str(u.shape) for u in types)
                raise ShapeError(
                    f"{name} got operands of incompatible shapes {shapes}: element-wise operations in asgfn.lax need equal shapes "
                    "(or scalars); asgfn.numpy functions and operators broadcast as NumPy does"
                )
            shape = t.shape
    weak = True
    first = types[0].dtype
    for t in types:
        if t.dtype != first:
            listed = ", ".join(u.dtype.name for u in types)
            raise DTypeError(
                f"{name} requires operands of one dtype, got {listed}: convert one of them (x.astype(...)); asgfn.numpy functions and operators promote"
            )
        weak = weak and t.weak_type
    return ArrayType(shape, dtype if dtype is not None else first, weak and (dtype is None or dtype != np.bool_))


def _elementwise_batch(name: str) -> Callable:
    def rule(args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple:
        prim = primitive(name)
        first = next(k for k, d in enumerate(dims) if d is not None)
        rank, dim = args[first].ndim, dims[first]
        if all((d == dim and x.ndim == rank) or (d is None and x.ndim == 0) for x, d in zip(args, dims, strict=True)):
            return prim.bind(*args, **params), dim
        out_rank = max(x.ndim - (d is not None) for x, d in zip(args, dims, strict=True))
        # bring every batch axis to the front; unbatched operands get a unit axis broadcast, batched scalars are widened
        size = batch_size(args, dims)
        shape = next(
            (
                tuple(s for i, s in enumerate(x.shape) if i != d)
                for x, d in zip(args, dims, strict=True)
                if x.ndim - (d is not None) == out_rank
            )
        )
        moved = []
        for x, d in zip(args, dims, strict=True):
            rank = x.ndim - (d is not None)
            if d is None:
                moved.append(x if rank == 0 else broadcast_front(x, size))
            else:
                x = move_batch_axis(x, d, 0)
                if rank < out_rank:
                    x = primitive("broadcast_in_dim").bind(x, shape=(size, *shape), broadcast_dimensions=(0,))
                moved.append(x)
        return prim.bind(*moved, **params), 0

    return rule


def _elementwise_jvp(name: str, derivatives: Sequence[Callable | None]) -> Callable:
    def rule(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
        out = primitive(name).bind(*primals, **params)
        total: Any = None
        for t, derivative in zip(tangents, derivatives, strict=True):
            if type(t) is Zero or derivative is None:
                continue
            if t.shape != out.shape:  # a scalar operand's tangent takes part in every element
                t = primitive("broadcast_in_dim").bind(t, shape=out.shape, broadcast_dimensions=())
            total = add_tangents(total, derivative(t, out, *primals, **params))
        return out, Zero(tangent_type(out.aval)) if total is None else total

    return rule


def elementwise(
    name: str,
    arity: int,
    *,
    kinds: Sequence[str] = NUMBER,
    out: Callable[[np.dtype], Any] | Any = None,
    jvp: Sequence[Callable | None] | None = None,
    transpose: Callable | None = None,
    category: str = "arithmetic",
    what: str = "",
    formula: str = "",
    why: str = "",
) -> Primitive:
    """Declares an element-wise primitive.

    Arguments:
        kinds: the kinds of dtype it takes ("bool", "int", "float", "complex", ...).
        out: the result's dtype, or a function of the operands' dtype; the operands' own by default.
        jvp: for each operand its share of the tangent, ``(g, y, *xs, **params) -> array``, or None for a zero derivative.
            Without it the derivative is zero everywhere.
    """

    known: dict[tuple, ArrayType] = {}  # types are interned, so this is one cheap look-up on the hot path of tracing

    def type_rule(*types: ArrayType, **params: Any) -> ArrayType:
        found = known.get(types)
        if found is not None:
            return found
        if len(types) != arity:
            raise GraphError(f"{name} takes {arity} operand{'s' * (arity != 1)}, got {len(types)}")
        for k, t in enumerate(types):
            check_dtype(name, t.dtype, kinds, k)
        dtype = (
            (out(types[0].dtype) if callable(out) and not isinstance(out, type) else np.dtype(out))
            if out is not None
            else None
        )
        result = known[types] = broadcast_type(name, types, dtype)
        return result

    if jvp is not None and len(jvp) != arity:
        raise ValueError(f"primitive {name}: {len(jvp)} derivatives for {arity} operands")
    return Primitive(
        name,
        category=category,
        type_rule=type_rule,
        jvp=_elementwise_jvp(name, jvp) if jvp is not None else no_derivative(name),
        transpose=transpose,
        batch=_elementwise_batch(name),
        what=what,
        formula=formula,
        why=why,
    )
