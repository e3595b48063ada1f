"""`vmap` for functions on pytrees."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial, wraps
from typing import Any

from asgfn.errors import AxisError, ShapeError, StructureError, TransformError
from asgfn.primitives.base import broadcast_front, move_batch_axis
from asgfn.tracing import state, trace_flat
from asgfn.transforms.batching import MappedAxis, batch_run
from asgfn.transforms.function import FlatFunction, as_function, check_leaves, function_name, leaf_names
from asgfn.tree_util import flatten_axes, keystr, tree_flatten, tree_flatten_with_path, tree_structure, tree_unflatten


def vmap(
    fun: Callable,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable | None = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable | None = None,
) -> Callable:
    """A function that applies `fun` along an axis of its arguments, all at once.

    Arguments:
        in_axes: which axis of each argument is mapped: an int for all, or a sequence with one entry an argument, each an
            int, None (not mapped), or a pytree prefix of the argument with such leaves.
        out_axes: where the mapped axis appears in the output: an int, None (the output does not depend on it), or a
            pytree prefix of the output.
        axis_name: a name by which collectives (`lax.psum`, ...) refer to the axis.
        axis_size: the axis' length, needed when no argument is mapped.

    Raises (when called):
        ShapeError: mapped axes have different lengths; the message lists them by argument path.
        AxisError: an argument does not have the axis.
        StructureError: in_axes or out_axes is not a prefix of the arguments or outputs.
    """
    f = as_function("vmap", fun)
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)  # a list here means one entry an argument, as a tuple does
    if in_axes is not None and not isinstance(in_axes, (int, tuple)):
        raise TypeError(
            f"vmap({function_name(f)}): in_axes must be an int, None, or a tuple with one entry an argument, got {in_axes!r}"
        )
    for leaf in tree_flatten((in_axes, out_axes))[0]:
        if not isinstance(leaf, int) or isinstance(leaf, bool):
            raise TypeError(
                f"vmap({function_name(f)}): in_axes and out_axes hold ints and None, got {leaf!r} of type {type(leaf).__name__}"
            )

    @wraps(f, updated=())
    def vmapped(*args: Any, **kwargs: Any) -> Any:
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise StructureError(
                f"vmap({function_name(f)}): in_axes={in_axes} has {len(in_axes)} entries but the function was called with {len(args)} positional "
                "arguments; give one entry an argument (None for arguments that are not mapped)"
            )
        leaves, in_tree = tree_flatten((args, kwargs))
        args_tree = tree_structure(args)
        axes = flatten_axes(f"vmap({function_name(f)}) in_axes", args_tree, in_axes)
        axes += [0] * (len(leaves) - len(axes))  # keyword arguments are mapped along their first axis

        def names() -> list[str]:
            return leaf_names(f, args, kwargs)

        mapped = [k for k, a in enumerate(axes) if a is not None]
        arrays = check_leaves([leaves[k] for k in mapped], lambda: [names()[k] for k in mapped], "vmap", f)
        dims = []
        for k, x in zip(mapped, arrays, strict=True):
            a = axes[k]
            if not -x.ndim <= a < x.ndim:
                raise AxisError(
                    f"vmap({function_name(f)}): argument {names()[k]} of type {x.aval} has no axis {a} to map over; use in_axes=None for it"
                )
            dims.append(a % x.ndim)
        size = _axis_size(
            f,
            axis_size,
            [x.shape[d] for x, d in zip(arrays, dims, strict=True)],
            lambda: [names()[k] for k in mapped],
            arrays,
            dims,
        )
        axis = MappedAxis(axis_name, size)

        flat = FlatFunction(f, in_tree)

        def call(*xs: Any) -> list[Any]:
            full = list(leaves)
            for k, x in zip(mapped, xs, strict=True):
                full[k] = x
            if axis_name is not None and xs:
                state.mapping = xs[0].trace
            return flat(*full)

        types = [x.aval.update(shape=x.shape[:d] + x.shape[d + 1 :]) for x, d in zip(arrays, dims, strict=True)]
        saved = state.axes, state.mapping
        if axis_name is not None:
            state.axes = (*state.axes, (axis_name, size))
        try:
            asg, captured = trace_flat(
                call, types, name=function_name(f), input_names=[names()[k] for k in mapped], staging=False, why="vmap"
            )
        finally:
            state.axes, state.mapping = saved
        outs, out_dims = batch_run(asg, [*arrays, *captured], [*dims, *([None] * len(captured))], axis)
        wanted = flatten_axes(f"vmap({function_name(f)}) out_axes", flat.out_tree, out_axes)
        placed = [
            _place(f, o, d, w, size, partial(_output_path, flat.out_tree, k))
            for k, (o, d, w) in enumerate(zip(outs, out_dims, wanted, strict=True))
        ]
        return tree_unflatten(flat.out_tree, placed)

    return vmapped


def _axis_size(
    f: Any,
    given: int | None,
    sizes: Sequence[int],
    names: Callable[[], list[str]],
    arrays: Sequence[Any],
    dims: Sequence[int],
) -> int:
    found = set(sizes)
    if given is not None:
        found.add(given)
    if not found:
        raise ShapeError(
            f"vmap({function_name(f)}): no argument is mapped, so the axis has no length; map one (in_axes) or give axis_size"
        )
    if len(found) == 1:
        return next(iter(found))
    paths = names()
    width = max(map(len, paths), default=0)
    rows = [
        f"  {p:<{width}}  {x.aval}  axis {d} has length {s}"
        for p, x, d, s in zip(paths, arrays, dims, sizes, strict=True)
    ]
    if given is not None:
        rows.append(f"  axis_size={given}")
    raise ShapeError(
        f"vmap({function_name(f)}): mapped axes must have one length, but these differ:\n"
        + "\n".join(rows)
        + "\nChoose other in_axes (None for what is not mapped)"
    )


def _output_path(tree: Any, k: int) -> str:
    paths = [keystr(p) for p, _ in tree_flatten_with_path(tree_unflatten(tree, range(tree.num_leaves)))[0]]
    return f"output{paths[k]}"


def _place(f: Any, x: Any, dim: int | None, wanted: int | None, size: int, path: Callable[[], str]) -> Any:
    if wanted is None:
        if dim is not None:
            raise TransformError(
                f"vmap({function_name(f)}): out_axes is None for {path()}, but that output depends on a mapped argument; give it an axis"
            )
        return x
    rank = x.ndim + (dim is None)
    if not -rank <= wanted < rank:
        raise AxisError(
            f"vmap({function_name(f)}): out_axes {wanted} is out of bounds for {path()}, which has {rank} dimensions with the mapped one"
        )
    if dim is None:
        return move_batch_axis(broadcast_front(x, size), 0, wanted)
    return move_batch_axis(x, dim, wanted)
