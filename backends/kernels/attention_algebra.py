"""Which terms are the same polynomial: sums of products are compared, however they were written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from backends.kernels.attention_terms import Terms

Monomial = frozenset[tuple[int, int]]  # factors (terms) and their exponents
Polynomial = Mapping[Monomial, float]
ONE: Monomial = frozenset()
_MOST = 64  # monomials


class _TooLarge(Exception):
    pass


class Algebra:
    """Terms as polynomials in other terms.

    A choice between something and zero is a product with the term `holds`, which is 1 or 0. What a sum over columns does
    not depend on is taken out of it.
    """

    def __init__(self, terms: Terms, atoms: Iterable[int]):
        self.terms, self.atoms = terms, frozenset(atoms)
        self._known: dict[int, Polynomial] = {}

    def of(self, term: int) -> Polynomial:
        found = self._known.get(term)
        if found is None:
            try:
                found = self._polynomial(term) if term not in self.atoms else None
            except _TooLarge:
                found = None
            found = self._known[term] = {frozenset(((term, 1),)): 1.0} if found is None else found
        return found

    def _polynomial(self, term: int) -> Polynomial | None:
        t = self.terms
        kind, *rest = t.keys[term]
        if kind == "constant":
            number = rest[2]
            if isinstance(number, (bool, complex)) or not math.isfinite(number):
                return None
            return {ONE: float(number)} if number else {}
        if kind == "reduce_sum":
            return self._sum(self.of(rest[0]))
        if kind != "op":
            return None
        name, params, *arguments = rest
        if name == "select_n":
            return self._choice(*arguments) if len(arguments) == 3 else None
        if name not in ("add", "sub", "mul", "div", "neg", "square", "integer_pow"):
            return None
        x, *others = map(self.of, arguments)
        if name == "neg":
            return _scaled(x, -1.0)
        if name in ("square", "integer_pow"):
            times = 2 if name == "square" else params["y"]
            if not 1 <= times <= 4:
                return None
            result = x
            for _ in range(times - 1):
                result = _product(result, x)
            return result
        (y,) = others
        if name == "mul":
            return _product(x, y)
        if name == "div":
            return None if len(y) != 1 else _product(x, _inverse(y))
        return _total(x, y if name == "add" else _scaled(y, -1.0))

    def _choice(self, which: int, otherwise: int, chosen: int) -> Polynomial | None:
        for case, other, positive in ((otherwise, chosen, False), (chosen, otherwise, True)):
            if not self.of(other):
                holds = self.terms.intern("holds", which, positive)
                return _product(self.of(case), {frozenset(((holds, 1),)): 1.0})
        return None

    def _sum(self, x: Polynomial) -> Polynomial:
        result: Polynomial = {}
        for monomial, c in x.items():
            varying = frozenset(f for f in monomial if self.terms.column_axis in self.terms.axes(f[0]))
            inner = self.terms.intern("sum", tuple(sorted(varying)))
            result = _total(result, {_times(monomial - varying, frozenset(((inner, 1),))): c})
        return result


def _times(x: Monomial, y: Monomial) -> Monomial:
    powers = dict(x)
    for factor, n in y:
        powers[factor] = powers.get(factor, 0) + n
    return frozenset((factor, n) for factor, n in powers.items() if n)


def _total(x: Polynomial, y: Polynomial) -> Polynomial:
    result = dict(x)
    for m, c in y.items():
        result[m] = result.get(m, 0.0) + c
    return _checked({m: c for m, c in result.items() if c})


def _scaled(x: Polynomial, factor: float) -> Polynomial:
    return {m: c * factor for m, c in x.items()}


def _product(x: Polynomial, y: Polynomial) -> Polynomial:
    result: dict[Monomial, float] = {}
    for m, c in x.items():
        for n, d in y.items():
            key = _times(m, n)
            result[key] = result.get(key, 0.0) + c * d
    return _checked({m: c for m, c in result.items() if c})


def _inverse(x: Polynomial) -> Polynomial:
    ((m, c),) = x.items()
    return {frozenset((factor, -n) for factor, n in m): 1 / c}


def _checked(x: dict[Monomial, float]) -> Polynomial:
    if len(x) > _MOST:
        raise _TooLarge
    return x
