"""What passes over a row leave for later ones, on a processor: a row that stays in the first cache is read for nearly nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from backends.kernels.ir import SIZES
from backends.kernels.loops import Placed, RegionLoops
from backends.kernels.schedules.rows_shape import Pass
from backends.kernels.types import Types

# what is worth being kept rather than computed again
COSTLY = frozenset(
    ("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sinh", "cosh", "sin", "cos", "tan", "asin", "acos", "atan",
     "atan2", "asinh", "acosh", "atanh", "erf", "erfc", "erf_inv", "lgamma", "digamma", "pow", "cbrt", "integer_pow")
)  # fmt: skip
# bytes of a row that are kept
MOST = 1 << 15


def needs(loops: RegionLoops, values: Iterable[int], known: Collection[int]) -> set[int]:
    """The values that some values are computed from, these included; what is known already is not computed."""
    asg, found = loops.asg, set[int]()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value in found or value in known:
            continue
        found.add(value)
        if asg.producers[value] >= 0:
            stack += asg.nodes[asg.producers[value]].inputs
    return found


def kept_values(loops: RegionLoops, passes: Sequence[Pass], types: Types) -> list[list[Placed]]:
    """For each pass, costly values that it computes and later passes, or results, need again at the same elements."""
    reduced = frozenset(r.result.value for r in loops.reductions)
    kept: list[list[Placed]] = []
    taken: set[int] = set()
    for k, p in enumerate(passes):
        kept.append([])
        later = [r.operand.value for q in passes[k + 1 :] if q.inner == p.inner for r in q.reductions]
        later += [o.value for o in loops.outputs if frozenset(o.loops) == p.kept | frozenset(p.inner)]
        if p.kept != loops.rows or not p.inner or not later:
            continue
        again = needs(loops, later, reduced)
        for r in p.reductions:
            shape = loops.asg.value_types[r.operand.value].shape
            mine = needs(loops, [r.operand.value], reduced) & again - taken
            costly = frozenset(v for v in mine if _is_costly(loops, v) and loops.asg.value_types[v].shape == shape)
            # what only others of these are made from need not be kept
            wanted = costly & _edge(loops, later, reduced, costly)
            for value in sorted(wanted):
                size = SIZES[types.register(loops.asg.value_types[value].dtype)]
                if loops.steps(p.inner) * size <= MOST:
                    taken.add(value)
                    kept[-1].append(Placed(value, r.operand.loops))
    return kept


def are_costly(loops: RegionLoops, values: Iterable[int]) -> bool:
    """Whether to compute some of these values is costly."""
    return any(_is_costly(loops, value) for value in values)


def _is_costly(loops: RegionLoops, value: int) -> bool:
    producer = loops.asg.producers[value]
    if producer < 0 or loops.asg.value_types[value].dtype.kind not in "fV":
        return False
    return loops.asg.nodes[producer].primitive.name in COSTLY


def _edge(loops: RegionLoops, values: Iterable[int], known: frozenset[int], costly: frozenset[int]) -> set[int]:
    """Those of the costly values that are needed if all of them are known."""
    asg, found, seen = loops.asg, set[int](), set[int]()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value in seen or value in known:
            continue
        seen.add(value)
        if value in costly:
            found.add(value)
        elif asg.producers[value] >= 0:
            stack += asg.nodes[asg.producers[value]].inputs
    return found
