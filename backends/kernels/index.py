"""Where in memory an element is: integer expressions over the axes of a kernel, kept simple as they are built.

An index is a sum of multiples of atoms, plus a constant. An atom is an axis (a loop, a thread's number), a digit of
another index, or an integer that is only known when the kernel runs. Reshapes take an index apart into digits and put
it together again; sums of neighbouring digits join, so what moves nothing costs nothing:

    >>> i = axis("i", 32)
    >>> row, column = i.digit(4, 8), i.digit(1, 4)
    >>> row * 4 + column == i
    True
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from asgfn.records import lazy


class Atom:
    """What an index is a sum of.

    Attributes:
        low, high: the smallest and the largest value that it can have.
    """

    __slots__ = ("__dict__",)

    low: int
    high: int


class Axis(Atom):
    """A number from 0 to size - 1 that a kernel runs through."""

    def __init__(self, name: str, size: int):
        self.name, self.size = name, size
        self.low, self.high = 0, max(size - 1, 0)

    def __repr__(self) -> str:
        return self.name


class Digit(Atom):
    """index // step % base, of an index that is never negative. `base` None: without the remainder."""

    def __init__(self, index: Index, step: int, base: int | None):
        self.index, self.step, self.base = index, step, base
        whole = index.high // step
        self.low, self.high = 0, whole if base is None else min(base - 1, whole)

    def __eq__(self, other: object) -> bool:
        return type(other) is Digit and (self.step, self.base, self.index) == (other.step, other.base, other.index)

    @lazy
    def _hash(self) -> int:
        return hash((self.index, self.step, self.base))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        text = f"({self.index!r}) // {self.step}" if self.step != 1 else f"({self.index!r})"
        return f"({text} % {self.base})" if self.base is not None else f"({text})"


class Computed(Atom):
    """An integer that the kernel computes: an expression of the IR, in these bounds."""

    def __init__(self, value: Any, low: int, high: int):
        self.value, self.low, self.high = value, low, high

    def __eq__(self, other: object) -> bool:
        return type(other) is Computed and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return f"[{self.value!r}]"


class Index:
    """constant + sum of coefficient * atom. Immutable; equal when it is the same sum.

    Attributes:
        terms: coefficients (not 0) by atom.
        constant: what is added.
    """

    __slots__ = ("__dict__", "constant", "terms")

    def __init__(self, terms: dict[Atom, int], constant: int = 0):
        self.terms = terms
        self.constant = constant

    # ------------------------------------------------------------------ bounds
    @lazy
    def low(self) -> int:
        """A lower bound of its values."""
        total = self.constant
        for atom, c in self.terms.items():
            total += c * (atom.low if c > 0 else atom.high)
        return total

    @lazy
    def high(self) -> int:
        """An upper bound of its values."""
        total = self.constant
        for atom, c in self.terms.items():
            total += c * (atom.high if c > 0 else atom.low)
        return total

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def divides(self, n: int) -> bool:
        """Whether all its values are certainly multiples of n."""
        return self.constant % n == 0 and all(c % n == 0 for c in self.terms.values())

    # ------------------------------------------------------------------ arithmetic
    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.constant + other) if other else self
        if not other.terms:
            return self + other.constant
        if not self.terms:
            return other + self.constant
        terms = dict(self.terms)
        for atom, c in other.terms.items():
            total = terms.get(atom, 0) + c
            if total:
                terms[atom] = total
            else:
                del terms[atom]
        joined, constant = _joined(terms)
        return Index(joined, self.constant + other.constant + constant)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Index:
        if factor == 1:
            return self
        if factor == 0:
            return Index({})
        return Index({a: c * factor for a, c in self.terms.items()}, self.constant * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Index:
        return self * -1

    def __sub__(self, other: Index | int) -> Index:
        return self + (-other)

    def digit(self, step: int, base: int | None = None) -> Index:
        """self // step % base, for an index that is not negative: a coordinate of a row-major layout."""
        if step == 0 or base == 0:
            return Index({})
        if self.low < 0:
            return Index({Digit(self, step, base): 1})
        if step == 1 and (base is None or self.high < base):
            return self
        single = self._single()
        if single is not None and single.__class__ is not Digit:
            return _digit_index(self, step, base)  # there is nothing to take apart
        # what is a multiple of the step leaves the division; the rest must not carry into it
        whole, rest = self._split(step)
        if rest.low < 0 or rest.high >= step:
            whole, rest = Index({}), self
            inner = self._divided(step)
        else:
            inner = whole.over(step)
        if base is None or (inner.low >= 0 and inner.high < base):
            return inner
        _, rest = inner._split(base)
        if rest.low >= 0 and rest.high < base:
            return rest
        return rest._remainder(base) if rest.low >= 0 else Index({Digit(inner, 1, base): 1})

    def over(self, n: int) -> Index:
        """self / n, for an index that n divides."""
        return Index({a: c // n for a, c in self.terms.items()}, self.constant // n)

    def _split(self, n: int) -> tuple[Index, Index]:
        """The part that is a multiple of n, and the rest."""
        whole: dict[Atom, int] = {}
        rest: dict[Atom, int] = {}
        for a, c in self.terms.items():
            (whole if c % n == 0 else rest)[a] = c
        remainder = self.constant % n
        return Index(whole, self.constant - remainder), Index(rest, remainder)

    def _divided(self, step: int) -> Index:
        """self // step, where nothing more is known."""
        single = self._single()
        if isinstance(single, Digit) and single.base is not None and single.base % step == 0:
            return _digit_index(single.index, single.step * step, single.base // step)
        if isinstance(single, Digit) and single.base is None:
            return _digit_index(single.index, single.step * step, None)
        whole, rest = self._split(step)
        if whole.terms and whole.low >= 0 and rest.low >= 0:
            return whole.over(step) + rest._divided(step)
        common, offset = self._common(step)
        if common > 1 and offset <= self.low:
            return (self - offset).over(common).digit(step // common)
        upper, common, _ = self._without_carry(step)
        return upper.digit(step // common) if common > 1 else _digit_index(self, step, None)

    def _remainder(self, base: int) -> Index:
        """self % base, where nothing more is known."""
        single = self._single()
        if isinstance(single, Digit) and (single.base is None or single.base % base == 0):
            return _digit_index(single.index, single.step, base)
        common, offset = self._common(base)
        if common > 1 and offset <= self.low:
            return (self - offset).over(common).digit(1, base // common) * common + offset
        upper, common, lower = self._without_carry(base)
        return upper.digit(1, base // common) * common + lower if common > 1 else _digit_index(self, 1, base)

    def _without_carry(self, n: int) -> tuple[Index, int, Index]:
        """(upper, c, lower), with c a divisor of n, so that this is upper * c + lower and lower is below c. c may be 1."""
        for c in sorted({math.gcd(n, k) for k in self.terms.values()}, reverse=True):
            whole, rest = self._split(c)
            if c > 1 and whole.terms and whole.low >= 0 and rest.low >= 0 and rest.high < c:
                return whole.over(c), c, rest
        return self, 1, constant(0)

    def _common(self, n: int) -> tuple[int, int]:
        """The largest divisor of n that divides all coefficients, and the rest of the constant by it."""
        common = math.gcd(n, *self.terms.values())
        return common, self.constant % common

    def _single(self) -> Atom | None:
        """The atom that this index is, if it is just one."""
        if self.constant == 0 and len(self.terms) == 1:
            ((atom, c),) = self.terms.items()
            return atom if c == 1 else None
        return None

    def replaced(self, changes: dict[Atom, Index]) -> Index:
        """With these atoms replaced by indices, in digits too."""
        if not changes:
            return self
        result = Index({}, self.constant)
        for atom, c in self.terms.items():
            result = result + _replaced(atom, changes) * c
        return result

    def atoms(self) -> Iterable[Atom]:
        """All atoms that it is made of; what digits are taken of is looked into."""
        for atom in self.terms:
            if isinstance(atom, Digit):
                yield from atom.index.atoms()
            else:
                yield atom

    # ------------------------------------------------------------------ as a value
    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return not self.terms and self.constant == other
        return isinstance(other, Index) and self.constant == other.constant and self.terms == other.terms

    @lazy
    def _hash(self) -> int:
        return hash((self.constant, frozenset(self.terms.items())))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        parts = [f"{c}*{a!r}" if c != 1 else repr(a) for a, c in self.terms.items()]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts)


def axis(name: str, size: int) -> Index:
    """The index that is a new axis."""
    return constant(0) if size == 1 else Index({Axis(name, size): 1})


def constant(value: int) -> Index:
    """The index that is always this number."""
    return Index({}, value)


def computed(value: Any, low: int, high: int) -> Index:
    """The index that an expression of the IR computes."""
    return Index({Computed(value, low, high): 1})


def linear(coordinates: Iterable[Index], shape: Iterable[int]) -> Index:
    """The place of an element in row-major order."""
    place = None
    for i, n in zip(coordinates, shape, strict=True):
        place = i if place is None else place * n + i
    return Index({}) if place is None else place


@lru_cache(maxsize=4096)
def coordinates(place: Index, shape: tuple[int, ...]) -> tuple[Index, ...]:
    """Coordinates of the element at a place in row-major order."""
    found = []
    step = 1
    for k, n in enumerate(reversed(shape)):
        last = k == len(shape) - 1
        found.append(constant(0) if n == 1 else place.digit(step, None if last else n))
        step *= n
    return tuple(reversed(found))


def _digit_index(index: Index, step: int, base: int | None) -> Index:
    digit = Digit(index, step, base)
    if digit.high == 0:
        return Index({})
    if base is not None and index.high // step < base:
        return _digit_index(index, step, None)
    if step == 1 and base is None:
        return index
    return Index({digit: 1})


def _replaced(atom: Atom, changes: dict[Atom, Index]) -> Index:
    if atom in changes:
        return changes[atom]
    if isinstance(atom, Digit):
        inner = atom.index.replaced(changes)
        return inner.digit(atom.step, atom.base)
    return Index({atom: 1})


def _joined(terms: dict[Atom, int]) -> tuple[dict[Atom, int], int]:
    """Joins neighbouring digits: c * (x // a % b) + c * b * (x // (a * b) % d) is c * (x // a % (b * d)).

    What is joined may be x itself, which brings its constant.
    """
    constant = 0
    changed = True
    while changed:
        changed = False
        digits = [a for a in terms if a.__class__ is Digit]
        if len(digits) < 2:
            break
        for low in digits:
            c, base = terms[low], low.base
            if base is None:
                continue
            step = low.step * base
            for upper in digits:
                if (
                    upper.step == step
                    and terms[upper] == c * base
                    # the lower digit may have lost what does not change it
                    and (upper.index == low.index or (upper.index - low.index).divides(upper.step))
                ):
                    joined = _digit_index(upper.index, low.step, None if upper.base is None else base * upper.base)
                    terms = {a: k for a, k in terms.items() if a is not low and a is not upper}
                    constant += joined.constant * c
                    for atom, k in joined.terms.items():
                        total = terms.get(atom, 0) + k * c
                        if total:
                            terms[atom] = total
                        else:
                            del terms[atom]
                    changed = True
                    break
            if changed:
                break
    return terms, constant
