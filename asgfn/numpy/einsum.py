"""Einstein summation: `einsum` lowered, pair by pair, to dot products, multiplications and reductions.

The steps: parse the subscripts (`_parse`); bring operands to distinct labels of one size each (`_prepare`); choose the
order of pairs (`_contraction_path`); contract each pair (`_contract_pair`).
"""

from __future__ import annotations

import functools
import operator
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import DTypeLike, check_arraylike, computation_dtype, promote_dtypes
from asgfn.tracing import Array


class _Term(NamedTuple):
    """An operand and the labels of its axes."""

    array: Array
    labels: str


def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: None = None,
    optimize: str | bool | Sequence[tuple[int, ...]] = "auto",
    precision: Any = None,
    preferred_element_type: DTypeLike = None,
    _dot_general: Callable[..., Array] = lax.dot_general,
    **_: Any,
) -> Array:
    """Sums of products, named by subscripts: ``einsum("ij,jk->ik", a, b)`` is the matrix product.

    Arguments:
        subscripts: labels of each operand's axes, separated by commas, and after ``->`` those of the result. Labels
            that the result lacks are summed over. Without ``->`` the result has the labels that occur once, in
            alphabetical order. ``...`` stands for any leading axes, which broadcast. Alternatively operands and
            lists of integer labels in turn: ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.
        optimize: how the order of contractions is chosen: "auto", True, "optimal", "greedy", False (from left to
            right), or a list of tuples of positions as `einsum_path` gives.
        precision, preferred_element_type: as in `lax.dot_general`.

    Raises:
        ValueError: malformed subscripts. ShapeError: sizes of a label differ.
    """
    if out is not None:
        raise NotImplementedError("einsum: out= is not supported, because arrays are immutable; use the result instead")
    subscripts, operands = _standard_form(subscripts, operands)
    check_arraylike("einsum", *operands)
    arrays = promote_dtypes(*operands)
    inputs, output = _parse(subscripts, tuple(x.ndim for x in arrays))
    if preferred_element_type is None:
        result_dtype, preferred = arrays[0].dtype, None
    else:
        result_dtype = preferred = dtypes.canonicalize(preferred_element_type)
    dot = functools.partial(_dot_general, precision=precision, preferred_element_type=preferred)

    terms = _prepare(subscripts, arrays, inputs, output)
    for positions in _contraction_path(terms, output, optimize):
        chosen = [terms[k] for k in positions]
        terms = [term for k, term in enumerate(terms) if k not in positions]
        needed = set(output).union(*(term.labels for term in terms))
        terms.append(_contract(chosen, needed, dot))
    (term,) = terms
    return lax.convert_element_type(_finish(term, output, _sizes(subscripts, arrays, inputs)), result_dtype)


def einsum_path(subscripts: Any, /, *operands: Any, optimize: Any = "auto") -> tuple[list[Any], Any]:
    """The order of pairwise contractions that `einsum` would use, and a printable account of its cost."""
    subscripts, operands = _standard_form(subscripts, operands)
    inputs, output = _parse(subscripts, tuple(np.ndim(x) for x in operands))
    text = f"{','.join(inputs)}->{output}"
    return _find_path(text, tuple(tuple(np.shape(x)) for x in operands), _optimizer(optimize, len(operands)))


# ---------------------------------------------------------------------------------------------- parsing
def _standard_form(subscripts: Any, operands: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """The string form of both ways to call `einsum`."""
    if isinstance(subscripts, str):
        if not operands:
            raise ValueError("einsum: there are no operands")
        return subscripts.replace(" ", ""), operands
    arguments = (subscripts, *operands)
    lists = list(arguments[1::2])
    arrays = arguments[0 : 2 * len(lists) : 2]
    if len(arguments) % 2:
        text = "->" + _letters(arguments[-1])
    else:
        text = ""
    return ",".join(map(_letters, lists)) + text, arrays


def _letters(labels: Sequence[Any]) -> str:
    """A list of integer labels (and Ellipsis) as letters."""
    try:
        return "".join("..." if label is Ellipsis else string.ascii_letters[operator.index(label)] for label in labels)
    except (TypeError, IndexError):
        raise ValueError(f"einsum: labels are integers from 0 to 51 or Ellipsis, got {labels!r}") from None


@functools.lru_cache(maxsize=1024)
def _parse(subscripts: str, ranks: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """Labels of each operand and of the result, the ellipsis written out as digits and other unused characters."""

    def malformed(why: str) -> ValueError:
        return ValueError(f"einsum: subscripts {subscripts!r} {why}")

    left, arrow, right = subscripts.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise malformed(f"name {len(parts)} operands, but {len(ranks)} are given")
    for part in (*parts, right):
        if part.count("...") > 1 or not all(c.isalpha() and c.isascii() for c in part.replace("...", "", 1)):
            raise malformed("may hold letters, commas, one '->' and one '...' an operand")
    hidden = []
    for k, (part, rank) in enumerate(zip(parts, ranks, strict=True)):
        extra = rank - len(part.replace("...", ""))
        if extra < 0 or (extra and "..." not in part):
            raise malformed(f"name {len(part.replace('...', ''))} axes of operand {k}, which has {rank}")
        hidden.append(extra if "..." in part else 0)
    # The ellipsis axes, aligned at their right end, get names that no user can write.
    names = "".join(chr(0x370 + k) for k in range(max(hidden)))
    inputs = tuple(part.replace("...", names[len(names) - n :]) for part, n in zip(parts, hidden, strict=True))
    letters = "".join(inputs)
    if not arrow:
        single = sorted(c for c in set(letters) - set(names) if letters.count(c) == 1)
        return inputs, names + "".join(single)
    output = right.replace("...", names)
    if len(set(output)) != len(output):
        raise malformed("name an axis of the result twice")
    if unknown := set(output) - set(letters):
        raise malformed(f"name axes of the result that no operand has: {''.join(sorted(unknown))}")
    return inputs, output


def _sizes(subscripts: str, arrays: Sequence[Array], inputs: Sequence[str]) -> dict[str, int]:
    """The size of each label; 1 gives way to any other size."""
    sizes: dict[str, int] = {}
    for x, labels in zip(arrays, inputs, strict=True):
        for label, size in zip(labels, x.shape, strict=True):
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size not in (1, known):
                listed = ", ".join(str(y.aval) for y in arrays)
                name = label if label.isascii() else "..."
                raise ShapeError(f"einsum {subscripts!r} of {listed}: axis {name!r} has both size {known} and {size}")
    return sizes


# ---------------------------------------------------------------------------------------------- operands
def _prepare(subscripts: str, arrays: Sequence[Array], inputs: Sequence[str], output: str) -> list[_Term]:
    """Operands whose labels are distinct: repeated ones become diagonals, broadcast axes of size 1 are dropped."""
    sizes = _sizes(subscripts, arrays, inputs)
    terms = []
    for x, labels in zip(arrays, inputs, strict=True):
        term = _diagonals(subscripts, _Term(x, labels))
        stretched = [k for k, c in enumerate(term.labels) if term.array.shape[k] == 1 and sizes[c] != 1]
        if stretched:
            kept = "".join(c for k, c in enumerate(term.labels) if k not in stretched)
            term = _Term(lax.squeeze(term.array, stretched), kept)
        terms.append(term)
    return terms


def _diagonals(subscripts: str, term: _Term) -> _Term:
    """Takes the diagonal of axes that share a label, as a strided slice of the flattened pair."""
    x, labels = term
    while len(set(labels)) != len(labels):
        label = next(c for c in labels if labels.count(c) > 1)
        first = labels.index(label)
        second = labels.index(label, first + 1)
        size = x.shape[first]
        if x.shape[second] != size:
            raise ShapeError(f"einsum {subscripts!r}: axes {label!r} of {x.aval} must have one size to take a diagonal")
        rest = [k for k in range(x.ndim) if k not in (first, second)]
        x = lax.transpose(x, [*rest, first, second])
        x = lax.reshape(x, (*x.shape[:-2], size * size))
        x = lax.slice_in_dim(x, 0, size * size, size + 1, axis=x.ndim - 1) if size else x
        labels = "".join(labels[k] for k in rest) + label
    return _Term(x, labels)


def _sum_out(term: _Term, needed: set[str]) -> _Term:
    """Sums over the axes whose labels are not needed."""
    axes = [k for k, c in enumerate(term.labels) if c not in needed]
    if not axes:
        return term
    wide = computation_dtype(term.array.dtype)
    total = lax.reduce_sum(lax.convert_element_type(term.array, wide), axes)
    return _Term(lax.convert_element_type(total, term.array.dtype), "".join(c for c in term.labels if c in needed))


def _finish(term: _Term, output: str, sizes: dict[str, int]) -> Array:
    """The last term with its axes in the order of the result."""
    x, labels = _sum_out(term, set(output))
    present = [c for c in output if c in labels]
    if list(labels) != present:
        x = lax.transpose(x, [labels.index(c) for c in present])
    shape = tuple(sizes[c] for c in output)
    return x if x.shape == shape else lax.broadcast_in_dim(x, shape, [output.index(c) for c in present])


# ---------------------------------------------------------------------------------------------- contraction
def _contract(terms: Sequence[_Term], needed: set[str], dot: functools.partial[Array]) -> _Term:
    """Combines one or more terms, from left to right."""
    result = terms[0]
    for k, term in enumerate(terms[1:], start=1):
        later = needed.union(*(other.labels for other in terms[k + 1 :]))
        result = _contract_pair(result, term, later, dot)
    return _sum_out(result, needed) if len(terms) == 1 else result


def _contract_pair(a: _Term, b: _Term, needed: set[str], dot: functools.partial[Array]) -> _Term:
    a, b = _sum_out(a, needed | set(b.labels)), _sum_out(b, needed | set(a.labels))
    shared = [c for c in a.labels if c in b.labels]
    contracted = [c for c in shared if c not in needed]
    batch = [c for c in shared if c in needed]
    labels = "".join(batch + [c for c in a.labels + b.labels if c not in shared])
    if not contracted and dot.keywords["preferred_element_type"] is None:
        return _Term(_outer_product(a, b, labels), labels)
    dimensions = (
        (tuple(map(a.labels.index, contracted)), tuple(map(b.labels.index, contracted))),
        (tuple(map(a.labels.index, batch)), tuple(map(b.labels.index, batch))),
    )
    # A previous step may have given the preferred dtype.
    left, right = promote_dtypes(a.array, b.array)
    return _Term(dot(left, right, dimensions), labels)


def _outer_product(a: _Term, b: _Term, labels: str) -> Array:
    """Element-wise product over the union of labels: nothing is summed, so that it may fuse with its neighbours."""
    sizes = dict(zip(a.labels + b.labels, a.array.shape + b.array.shape, strict=True))
    shape = tuple(sizes[c] for c in labels)
    spread = []
    for x, own in (a, b):
        order = sorted(range(len(own)), key=lambda k: labels.index(own[k]))
        x = lax.transpose(x, order)
        spread.append(lax.broadcast_in_dim(x, shape, [labels.index(own[k]) for k in order]))
    return lax.bitwise_and(*spread) if dtypes.is_bool(spread[0].dtype) else lax.mul(*spread)


# ---------------------------------------------------------------------------------------------- order
def _contraction_path(terms: Sequence[_Term], output: str, optimize: Any) -> list[tuple[int, ...]]:
    """Positions of the terms that each step combines; the step's result goes to the end of the list."""
    if not isinstance(optimize, (str, bool)):
        return [tuple(step) for step in optimize if not isinstance(step, str)]
    if len(terms) <= 2:
        return [tuple(range(len(terms)))]
    labels = sorted(set("".join(term.labels for term in terms)))
    if optimize is False or len(labels) > len(string.ascii_letters):
        return [(0, 1), *((0, len(terms) - k) for k in range(2, len(terms)))]
    rename = str.maketrans(dict(zip(labels, string.ascii_letters, strict=False)))
    kept = "".join(c for c in output if c in labels)
    text = f"{','.join(term.labels for term in terms)}->{kept}".translate(rename)
    path, _ = _find_path(text, tuple(term.array.shape for term in terms), _optimizer(optimize, len(terms)))
    return [step for step in path if not isinstance(step, str)]


def _optimizer(optimize: Any, operands: int) -> Any:
    """The exhaustive search is cheap for a few operands and explodes for many."""
    if optimize is True or optimize == "auto":
        return "optimal" if operands <= 5 else "greedy"
    return optimize if isinstance(optimize, (str, bool)) else tuple(map(tuple, optimize))


@functools.lru_cache(maxsize=1024)
def _find_path(subscripts: str, shapes: tuple[tuple[int, ...], ...], optimize: Any) -> tuple[list[Any], Any]:
    """The path of opt_einsum if that is installed, else NumPy's."""
    try:
        import opt_einsum
    except ImportError:
        # Only shapes matter: arrays that repeat one element cost nothing.
        stand_ins = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
        choice = optimize if isinstance(optimize, (str, bool)) else ["einsum_path", *optimize]
        return np.einsum_path(subscripts, *stand_ins, optimize=choice)
    choice = optimize if isinstance(optimize, (str, bool)) else list(optimize)
    return opt_einsum.contract_path(subscripts, *shapes, shapes=True, optimize=choice)
