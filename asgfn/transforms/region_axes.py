"""Axes of values as lists of factors, so that a reshape is a renaming.

A reshape from ``[8, 1024, 12 * 64]`` to ``[8, 1024, 12, 64]`` splits an axis. If the axis of length 768 is written
as the two factors 12 and 64 everywhere in the program, then both shapes are the same list of factors, and views that
only move data around (reshape, transpose, broadcast) become selections from such a list. Axes of length 1 have no
factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, pairwise
from typing import Any

Shape = tuple[int, ...]

_ROUNDS = 8  # reshapes can force cuts on each other; longer chains than this are left unaligned


class AxisFactors:
    """The factors of every axis length of a program, chosen so that as many of its reshapes as possible are renamings.

    All axes of one length are cut alike. That is finer than needed and never wrong, and it keeps element-wise
    operands aligned without looking at the graph.
    """

    def __init__(self, reshapes: Iterable[tuple[Shape, Shape]]):
        self._cuts: dict[int, tuple[int, ...]] = {}  # axis length -> proper suffix products, each dividing the next
        self._factors: dict[Shape, tuple[tuple[int, ...], ...]] = {}
        self._flat: dict[Shape, tuple[int, ...]] = {}
        self._identities: dict[Shape, tuple[int, ...]] = {}
        self._positions: dict[Shape, list[range]] = {}
        self._selections: dict[tuple, tuple[int, ...] | None] = {}
        pairs = dict.fromkeys(reshapes)
        for _ in range(_ROUNDS):
            changed = [self._align(a, b) for a, b in pairs]
            if not any(changed):
                break

    def _align(self, a: Shape, b: Shape) -> bool:
        """Cuts the axes of two shapes of one reshape at each other's boundaries. Whether that changed anything."""
        bounds = sorted(self._bounds(a) | self._bounds(b))
        if any(y % x for x, y in pairwise(bounds)):
            return False  # 4 x 6 to 6 x 4: the boundaries do not nest
        wanted: dict[int, set[int]] = {}
        for shape in (a, b):
            inner = 1
            for n in reversed(shape):
                for bound in bounds:
                    if inner < bound < inner * n:
                        wanted.setdefault(n, set(self._cuts.get(n, ()))).add(bound // inner)
                inner *= n
        changed = {n: tuple(sorted(cuts)) for n, cuts in wanted.items() if len(cuts) != len(self._cuts.get(n, ()))}
        if not changed or any(y % x for n, cuts in changed.items() for x, y in pairwise((*cuts, n))):
            return False
        self._cuts.update(changed)
        return True

    def _bounds(self, shape: Shape) -> set[int]:
        found = {1}
        inner = 1
        for n in reversed(shape):
            found.update(inner * cut for cut in self._cuts.get(n, ()))
            inner *= n
            found.add(inner)
        return found

    def factors(self, shape: Shape) -> tuple[tuple[int, ...], ...]:
        """For each axis its factors, outermost first."""
        found = self._factors.get(shape)
        if found is None:
            found = self._factors[shape] = tuple(map(self._factor, shape))
        return found

    def _factor(self, n: int) -> tuple[int, ...]:
        if n == 1:
            return ()
        if n not in self._cuts:
            return (n,)
        suffixes = (1, *self._cuts[n], n)
        return tuple(y // x for x, y in reversed(list(pairwise(suffixes))))

    def flat(self, shape: Shape) -> tuple[int, ...]:
        """The factors of a shape, outermost first."""
        found = self._flat.get(shape)
        if found is None:
            found = self._flat[shape] = tuple(chain.from_iterable(self.factors(shape)))
        return found

    def identity(self, shape: Shape) -> tuple[int, ...]:
        """The selection of something that is read as it is."""
        found = self._identities.get(shape)
        if found is None:
            found = self._identities[shape] = tuple(range(len(self.flat(shape))))
        return found

    def positions(self, shape: Shape) -> list[range]:
        """For each axis the places of its factors in `flat(shape)`."""
        found = self._positions.get(shape)
        if found is None:
            found = self._positions[shape] = []
            at = 0
            for axis in self.factors(shape):
                found.append(range(at, at + len(axis)))
                at += len(axis)
        return found

    def selection(self, name: str, params: Mapping[str, Any], source: Shape, target: Shape) -> tuple[int, ...] | None:
        """How a view reads its operand: for each factor of the operand, the factor of the result that runs along it.

        None if that is not all there is to it (slices, padding, reshapes that do not nest).
        """
        key = (name, params, source, target)
        if key not in self._selections:
            self._selections[key] = self._select(name, params, source, target)
        return self._selections[key]

    def _select(self, name: str, params: Mapping[str, Any], source: Shape, target: Shape) -> tuple[int, ...] | None:
        if not source:
            return ()  # a scalar is the same everywhere
        if name == "transpose":
            places = self.positions(target)
            back = [0] * len(source)
            for i, axis in enumerate(params["permutation"]):
                back[axis] = i
            return tuple(p for i in back for p in places[i])
        if name == "broadcast_in_dim":
            places = self.positions(target)
            axes = zip(source, params["broadcast_dimensions"], strict=True)
            return tuple(p for n, i in axes if n == target[i] for p in places[i])
        if name in _MOVES_NOTHING or (source == target and name not in _MOVES_WITHIN):
            return self.identity(source) if self.flat(source) == self.flat(target) else None
        return None


_MOVES_NOTHING = frozenset(("reshape", "squeeze", "copy", "name", "stop_gradient", "convert_element_type"))
_MOVES_WITHIN = frozenset(("rev", "pad", "concatenate", "slice"))
