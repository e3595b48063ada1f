"""Operations across a mapped axis that has a name: sums, gathers, permutations.

They exist only while the function under `vmap(axis_name=...)` is traced; mapping turns them into ordinary reductions and
rearrangements.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from asgfn.errors import ShapeError, UnboundAxisError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    Primitive,
    Zero,
    bdim_at_front,
    broadcast_front,
    instantiate_zeros,
    move_batch_axis,
    primitive,
    tangent_type,
    zeros_like_type,
)
from asgfn.primitives.elementwise import div, eq, mul
from asgfn.primitives.padding import concatenate
from asgfn.primitives.reductions import reduce_max, reduce_min
from asgfn.primitives.shaping import (
    canonical_axis,
    convert_element_type,
    iota,
    reduce_sum,
    reshape,
)
from asgfn.primitives.slicing import dynamic_index_in_dim, index_in_dim
from asgfn.tracing import Array, as_array, bind, state
from asgfn.tree_util import tree_flatten, tree_map, tree_unflatten


def _size_of(name: Hashable, operation: str) -> int:
    for bound, size in reversed(state.axes):
        if bound == name:
            return size
    known = ", ".join(repr(n) for n, _ in state.axes) or "none"
    raise UnboundAxisError(
        f"{operation}: axis name {name!r} is not bound (bound names: {known}). Collectives work inside a function mapped with vmap(..., axis_name={name!r})"
    )


def _names(axis_name: Any, operation: str) -> tuple[tuple, tuple[int, ...]]:
    names = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    return names, tuple(_size_of(n, operation) for n in names)


def axis_size(axis_name: Any) -> int:
    """The length of a mapped axis (of several: the product)."""
    _, sizes = _names(axis_name, "axis_size")
    return int(np.prod(sizes, dtype=np.int64))


# ---------------------------------------------------------------------------------------------- reductions
def _reduction(name: str, reduce: Any, repeat: Any, jvp: Any, transpose: Any, what: str, formula: str) -> Primitive:
    def axis_batch(axis: Any, args: Sequence[Any], dims: Sequence[int | None], *, axis_names: tuple) -> tuple:
        (x,), (d,) = args, dims
        if axis.name not in axis_names:
            return bind(prim, x, axis_names=axis_names), d
        out = repeat(x, axis.size) if d is None else reduce(x, (d,))
        rest = tuple(n for n in axis_names if n != axis.name)
        return (bind(prim, out, axis_names=rest) if rest else out), None

    prim = Primitive(
        name,
        category="reduction",
        type_rule=lambda x, *, axis_names: x,
        jvp=jvp,
        transpose=transpose,
        axis_batch=axis_batch,
        what=what,
        formula=formula,
        why="Batch statistics, gradient averaging, normalisation across examples.",
    )
    return prim


def _psum_jvp(primals: Sequence[Any], tangents: Sequence[Any], *, axis_names: tuple) -> tuple:
    out = bind(psum_p, primals[0], axis_names=axis_names)
    return out, bind(psum_p, tangents[0], axis_names=axis_names)


psum_p: Primitive = _reduction(
    "psum",
    reduce_sum,
    lambda x, size: mul(x, np.asarray(size, x.dtype)),
    _psum_jvp,
    lambda ct, x, *, axis_names: [bind(psum_p, ct, axis_names=axis_names)],
    "Sums over a mapped axis; every member gets the sum.",
    "y = sum over members of x",
)


def _extremum_jvp(prim_name: str) -> Any:
    def rule(primals: Sequence[Any], tangents: Sequence[Any], *, axis_names: tuple) -> tuple:
        prim = {"pmax": pmax_p, "pmin": pmin_p}[prim_name]
        (x,), (t,) = primals, tangents
        out = bind(prim, x, axis_names=axis_names)
        here = convert_element_type(eq(x, out), t.dtype)  # members that attain it share its derivative equally
        count = bind(psum_p, here, axis_names=axis_names)
        return out, bind(psum_p, mul(t, div(here, count)), axis_names=axis_names)

    return rule


pmax_p = _reduction(
    "pmax",
    reduce_max,
    lambda x, size: x,
    _extremum_jvp("pmax"),
    None,
    "Maximum over a mapped axis.",
    "y = max over members of x",
)
pmin_p = _reduction(
    "pmin",
    reduce_min,
    lambda x, size: x,
    _extremum_jvp("pmin"),
    None,
    "Minimum over a mapped axis.",
    "y = min over members of x",
)


def _no_groups(groups: Any, operation: str) -> None:
    if groups is not None:
        raise ShapeError(
            f"{operation}: axis_index_groups is not supported under vmap; reshape the axis into two named axes instead"
        )


def psum(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Sum over the mapped axis `axis_name` (or several) of every leaf of `x`. A Python number gives a Python number."""
    _no_groups(axis_index_groups, "psum")
    names, sizes = _names(axis_name, "psum")
    total = int(np.prod(sizes, dtype=np.int64))

    def one(leaf: Any) -> Any:
        if type(leaf) in (int, float, complex):
            return leaf * total
        leaf = as_array(leaf, "psum")
        if leaf.dtype == np.bool_:
            leaf = convert_element_type(leaf, np.int32)
        return bind(psum_p, leaf, axis_names=names)

    return tree_map(one, x)


def pmean(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Mean over the mapped axis of every leaf."""
    n = axis_size(axis_name)
    summed = psum(tree_map(as_array, x), axis_name, axis_index_groups=axis_index_groups)

    def one(leaf: Any) -> Any:
        if leaf.dtype.kind in "iub":
            leaf = convert_element_type(leaf, float)
        return div(leaf, np.asarray(n, leaf.dtype))

    return tree_map(one, summed)


def pmax(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Maximum over the mapped axis of every leaf."""
    _no_groups(axis_index_groups, "pmax")
    names, _ = _names(axis_name, "pmax")
    return tree_map(lambda leaf: bind(pmax_p, as_array(leaf), axis_names=names), x)


def pmin(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """Minimum over the mapped axis of every leaf."""
    _no_groups(axis_index_groups, "pmin")
    names, _ = _names(axis_name, "pmin")
    return tree_map(lambda leaf: bind(pmin_p, as_array(leaf), axis_names=names), x)


# ---------------------------------------------------------------------------------------------- position
def _index_batch(axis: Any, args: Sequence[Any], dims: Sequence[Any], *, axis_names: tuple, size: int) -> tuple:
    return iota(np.int32, axis.size), 0


axis_index_p = Primitive(
    "axis_index",
    category="indexing",
    type_rule=lambda *, axis_names, size: ArrayType((), np.dtype("int32")),
    axis_batch=_index_batch,
    what="The position of this member along a mapped axis.",
    formula="y = i",
    why="Different behaviour or data for each member.",
)


def axis_index(axis_name: Any) -> Array:
    """The position along the mapped axis, int32 (for several names: in row-major order)."""
    names, sizes = _names(axis_name, "axis_index")
    index: Any = None
    for name, size in zip(names, sizes, strict=True):
        one = bind(axis_index_p, axis_names=(name,), size=size)
        index = one if index is None else mul(index, np.int32(size)) + one
    return index


# ---------------------------------------------------------------------------------------------- rearrangement
def _gather_type(x: ArrayType, *, axis_names: tuple, size: int, axis: int) -> ArrayType:
    return x.update(shape=(*x.shape[:axis], size, *x.shape[axis:]))


def _gather_batch(
    mapped: Any, args: Sequence[Any], dims: Sequence[int | None], *, axis_names: tuple, size: int, axis: int
) -> tuple:
    (x,), (d,) = args, dims
    if mapped.name not in axis_names:
        x = bdim_at_front(x, d, mapped.size)
        return bind(all_gather_p, x, axis_names=axis_names, size=size, axis=axis + 1), 0
    full = broadcast_front(x, size) if d is None else move_batch_axis(x, d, 0)
    return move_batch_axis(full, 0, axis), None


def _gather_transpose(ct: Any, x: Any, *, axis_names: tuple, size: int, axis: int) -> list:
    # member i's value reached place i of everybody's result
    total = bind(psum_p, ct, axis_names=axis_names)
    return [dynamic_index_in_dim(total, axis_index(axis_names[0]), axis, keepdims=False)]


def _linear(name: str) -> Any:
    def rule(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
        prim = primitive(name)
        if type(tangents[0]) is Zero:
            out = bind(prim, primals[0], **params)
            return out, Zero(tangent_type(out.aval))
        return bind(prim, primals[0], **params), bind(prim, instantiate_zeros(tangents[0]), **params)

    return rule


all_gather_p = Primitive(
    "all_gather",
    category="shape",
    type_rule=_gather_type,
    jvp=_linear("all_gather"),
    transpose=_gather_transpose,
    axis_batch=_gather_batch,
    what="Stacks the values of all members along a new axis.",
    formula="y[i] = x of member i",
    why="Contrastive losses, statistics that need all examples.",
)


def all_gather(x: Any, axis_name: Any, *, axis_index_groups: Any = None, axis: int = 0, tiled: bool = False) -> Any:
    """The values of all members stacked along a new axis `axis`; with `tiled`, concatenated along the existing one."""
    _no_groups(axis_index_groups, "all_gather")
    names, sizes = _names(axis_name, "all_gather")

    def one(leaf: Any) -> Any:
        leaf = as_array(leaf)
        at = canonical_axis(axis, leaf.ndim + (not tiled), "all_gather")
        out = leaf
        for name, size in zip(reversed(names), reversed(sizes), strict=True):
            out = bind(all_gather_p, out, axis_names=(name,), size=size, axis=at)
        if tiled or len(names) > 1:
            shape = list(leaf.shape)
            total = int(np.prod(sizes, dtype=np.int64))
            if tiled:
                shape[at] *= total
            else:
                shape.insert(at, total)
            out = reshape(out, shape)
        return out

    return tree_map(one, x)


def _permute_batch(
    mapped: Any, args: Sequence[Any], dims: Sequence[int | None], *, axis_names: tuple, size: int, perm: tuple
) -> tuple:
    (x,), (d,) = args, dims
    if mapped.name not in axis_names:
        return bind(ppermute_p, x, axis_names=axis_names, size=size, perm=perm), d
    full = broadcast_front(x, size) if d is None else move_batch_axis(x, d, 0)
    source = {dst: src for src, dst in perm}
    rows = []
    for i in range(size):
        row = index_in_dim(full, source.get(i, i), 0)
        rows.append(row if i in source else zeros_like_type(row.aval))
    return concatenate(rows, 0), 0


ppermute_p: Primitive = Primitive(
    "ppermute",
    category="shape",
    type_rule=lambda x, *, axis_names, size, perm: x,
    jvp=_linear("ppermute"),
    transpose=lambda ct, x, *, axis_names, size, perm: [
        bind(ppermute_p, ct, axis_names=axis_names, size=size, perm=tuple((dst, src) for src, dst in perm))
    ],
    axis_batch=_permute_batch,
    what="Sends each member's value to another member.",
    formula="y of member d = x of member s, for (s, d) in perm",
    why="Rings and halos.",
)


def ppermute(x: Any, axis_name: Any, perm: Sequence[tuple[int, int]]) -> Any:
    """Sends values from member to member: `perm` is a list of (source, destination) pairs, each at most once. A member
    to which nothing is sent gets zeros."""
    names, sizes = _names(axis_name, "ppermute")
    pairs = tuple((int(s), int(d)) for s, d in perm)
    sources, targets = [s for s, _ in pairs], [d for _, d in pairs]
    if len(set(sources)) != len(pairs) or len(set(targets)) != len(pairs):
        raise ShapeError(f"ppermute: sources and destinations must be distinct, got {list(pairs)}")
    if any(not 0 <= i < sizes[0] for i in (*sources, *targets)):
        raise ShapeError(f"ppermute: members must lie in [0, {sizes[0]}), got {list(pairs)}")
    return tree_map(lambda leaf: bind(ppermute_p, as_array(leaf), axis_names=names, size=sizes[0], perm=pairs), x)


def pshuffle(x: Any, axis_name: Any, perm: Sequence[int]) -> Any:
    """Member i gets the value of member `perm[i]`."""
    return ppermute(x, axis_name, [(int(s), i) for i, s in enumerate(perm)])


def _exchange_type(x: ArrayType, *, axis_names: tuple, size: int, split_axis: int, concat_axis: int) -> ArrayType:
    if x.shape[split_axis] != size:
        raise ShapeError(f"all_to_all: axis {split_axis} of {x} must have the mapped axis' length {size}")
    shape = [s for i, s in enumerate(x.shape) if i != split_axis]
    shape.insert(concat_axis, size)
    return x.update(shape=tuple(shape))


def _exchange_batch(
    mapped: Any,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    axis_names: tuple,
    size: int,
    split_axis: int,
    concat_axis: int,
) -> tuple:
    (x,), (d,) = args, dims
    if mapped.name not in axis_names:
        x = bdim_at_front(x, d, mapped.size)
        out = bind(
            all_to_all_p, x, axis_names=axis_names, size=size, split_axis=split_axis + 1, concat_axis=concat_axis + 1
        )
        return out, 0
    full = broadcast_front(x, size) if d is None else move_batch_axis(x, d, 0)
    # axes (source member, ..., split, ...): the split axis becomes the member, the source goes where results are collected
    members_first = move_batch_axis(full, split_axis + 1, 0)
    return move_batch_axis(members_first, 1, concat_axis + 1), 0


all_to_all_p: Primitive = Primitive(
    "all_to_all",
    category="shape",
    type_rule=_exchange_type,
    jvp=_linear("all_to_all"),
    transpose=lambda ct, x, *, axis_names, size, split_axis, concat_axis: [
        bind(all_to_all_p, ct, axis_names=axis_names, size=size, split_axis=concat_axis, concat_axis=split_axis)
    ],
    axis_batch=_exchange_batch,
    what="Exchanges slices between all members: a transposition of the mapped axis with another.",
    formula="y of member i at j = x of member j at i",
    why="Sequence and expert parallelism.",
)


def all_to_all(
    x: Any, axis_name: Any, split_axis: int, concat_axis: int, *, axis_index_groups: Any = None, tiled: bool = False
) -> Any:
    """Splits `split_axis` among the members and collects what each receives along `concat_axis`."""
    _no_groups(axis_index_groups, "all_to_all")
    names, sizes = _names(axis_name, "all_to_all")
    size = sizes[0]

    def one(leaf: Any) -> Any:
        leaf = as_array(leaf)
        split, concat = canonical_axis(split_axis, leaf.ndim), canonical_axis(concat_axis, leaf.ndim)
        if not tiled:
            return bind(all_to_all_p, leaf, axis_names=names, size=size, split_axis=split, concat_axis=concat)
        if leaf.shape[split] % size:
            raise ShapeError(
                f"all_to_all: axis {split} of {leaf.aval} is not divisible by the mapped axis' length {size}"
            )
        shape = leaf.shape
        parts = reshape(leaf, (*shape[:split], size, shape[split] // size, *shape[split + 1 :]))
        out = bind(all_to_all_p, parts, axis_names=names, size=size, split_axis=split, concat_axis=concat)
        done = [s for i, s in enumerate(shape) if i != split]
        done.insert(split, shape[split] // size)
        done[concat] *= size
        return reshape(out, done)

    return tree_map(one, x)


def pswapaxes(x: Any, axis_name: Any, axis: int, *, axis_index_groups: Any = None) -> Any:
    """Exchanges the mapped axis with axis `axis`, which must be as long: `all_to_all` without a move."""
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def psum_scatter(
    x: Any, axis_name: Any, *, scatter_dimension: int = 0, axis_index_groups: Any = None, tiled: bool = False
) -> Any:
    """Sums over the mapped axis and leaves each member its slice of `scatter_dimension`."""
    _no_groups(axis_index_groups, "psum_scatter")
    size = axis_size(axis_name)

    def one(leaf: Any) -> Any:
        leaf = as_array(leaf)
        at = canonical_axis(scatter_dimension, leaf.ndim)
        if leaf.shape[at] % size if tiled else leaf.shape[at] != size:
            wanted = "be divisible by" if tiled else "be"
            raise ShapeError(f"psum_scatter: axis {at} of {leaf.aval} must {wanted} the mapped axis' length {size}")
        if tiled:
            leaf = reshape(leaf, (*leaf.shape[:at], size, leaf.shape[at] // size, *leaf.shape[at + 1 :]))
        total = psum(leaf, axis_name)
        return dynamic_index_in_dim(total, axis_index(axis_name), at, keepdims=False)

    return tree_map(one, x)


def pbroadcast(x: Any, axis_name: Any, source: int) -> Any:
    """Every member gets the value of member `source`."""
    leaves, tree = tree_flatten(x)
    return tree_unflatten(
        tree, [index_in_dim(all_gather(leaf, axis_name), source, 0, keepdims=False) for leaf in leaves]
    )
