"""Finds attention, and its gradient, in a graph that spells it out, and puts one node in place of each.

What is looked for is softmax along one axis of something made, element by element, of a product q k^T, times v; and the
products that reverse-mode differentiation adds. Everything is compared as terms and polynomials (`attention_terms`, `attention_algebra`), so
how axes are laid out, where scale and mask come in, and how the derivative of softmax is written do not matter. A match
counts only if after it nobody needs scores or weights: otherwise the graph stays as it is.

Sources: A. Vaswani et al., 2017; T. Dao, FlashAttention-2, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from asgfn.graph.asg import Asg, Node, Params, inner_graphs
from asgfn.graph.edit import prune
from asgfn.graph.types import ArrayType
from asgfn.transforms.region_roles import ELEMENTWISE, VIEW, role_of
from backends.kernels.attention_algebra import Algebra, Monomial, Polynomial
from backends.kernels.attention_band import find_band
from backends.kernels.attention_build import replaced, replacement
from backends.kernels.attention_cut import Found, FoundGradient, Softmax
from backends.kernels.attention_frame import Frame, Use, axes_of
from backends.kernels.attention_loops import join_loops
from backends.kernels.attention_terms import reduces_nothing
from backends.kernels.index import Axis
from backends.kernels.target import Target

LARGEST_HEAD = 128
# with fewer queries than this and more keys, each of the plain products has more to do in parallel
FEW_QUERIES, MANY_KEYS = 8, 512


def recognise(asg: Asg, target: Target) -> Asg:
    """The graph with attention as single nodes, in bodies of loops and branches too.

    Arguments:
        asg: a simplified graph.
        target: attention that there are no kernels for on it (heads too large, too many arrays) is left as it is.
    """
    asg = join_loops(asg, lambda graph, sides: _matched(graph, target, sides))
    nodes = [n._replace(params=_bodies(n.params, target)) if n.primitive.holds_graphs else n for n in asg.nodes]
    if any(a.params is not b.params for a, b in zip(nodes, asg.nodes, strict=True)):
        asg = asg.replace(nodes=nodes)
    found = _matched(asg, target, ())
    return asg if found is None else prune(found[0])


def _matched(asg: Asg, target: Target, sides: Sequence[int]) -> tuple[Asg, list[int]] | None:
    """The graph with all attention of its own replaced; None if there is none. Nodes that are added are on the side of
    the one that they come after."""
    exponentials = [k for k, node in enumerate(asg.nodes) if node.primitive.name == "exp"]
    found = [f for f in (_find(asg, k, target) for k in exponentials) if f is not None]
    matches = [m for m in (replacement(f, target) for f in found) if m is not None]
    # what turns out to be needed elsewhere is found another way or left out; then the rest is tried again
    while matches:
        graph, new_sides, failed = replaced(asg, matches, sides)
        if not failed:
            return graph, new_sides
        matches = [m for m in (m.otherwise() if k in failed else m for k, m in enumerate(matches)) if m is not None]
    return None


def _bodies(params: Params, target: Target) -> Params:
    def one(value: Any) -> Any:
        if isinstance(value, Asg):
            return recognise(value, target)
        if isinstance(value, tuple) and value and all(isinstance(v, Asg) for v in value):
            new = tuple(recognise(v, target) for v in value)
            return new if any(a is not b for a, b in zip(new, value, strict=True)) else value
        return value

    if not inner_graphs(params):
        return params
    new = {k: one(v) for k, v in params.items()}
    return Params(new) if any(new[k] is not params[k] for k in new) else params


def _find(asg: Asg, number: int, target: Target) -> Found | None:
    """The attention whose exponentials are made by this node."""
    softmax = _softmax(asg, number)
    product = None if softmax is None else _product(asg, softmax)
    if softmax is None or product is None or not asg.value_types[softmax.scores].size:
        return None
    frame = Frame(asg, softmax.scores, product, softmax.exponentials, softmax.axis)
    if not frame.found or frame.is_odd or not frame.uses:
        return None
    return _Finder(asg, softmax, product, frame, target).find()


def _softmax(asg: Asg, number: int) -> Softmax | None:
    """Softmax with these exponentials. Whether all of it fits together is seen later, by its terms."""
    exponentials = asg.first_outputs[number]
    maker = asg.producers[asg.nodes[number].inputs[0]]
    if maker < 0 or asg.nodes[maker].primitive.name != "sub":
        return None
    scores, subtracted = asg.nodes[maker].inputs
    t = asg.value_types[scores]
    largest, total = _reduction(asg, scores, "reduce_max"), _reduction(asg, exponentials, "reduce_sum")
    if largest is None or total is None or largest[1] != total[1]:
        return None
    if t.shape != asg.value_types[exponentials].shape or t.shape[total[1]] < 2:
        return None
    return Softmax(scores, subtracted, exponentials, largest[0], total[0], total[1])


def _reduction(asg: Asg, value: int, name: str) -> tuple[int, int] | None:
    """The reduction of a value, and its only axis."""
    for user in asg.users[value]:
        node = asg.nodes[user]
        if node.primitive.name == name and len(node.params["axes"]) == 1:
            return asg.first_outputs[user], node.params["axes"][0]
        if node.primitive.name == "stop_gradient" and name == "reduce_max":
            found = _reduction(asg, asg.first_outputs[user], name)
            if found is not None:
                return found
    return None


def _product(asg: Asg, softmax: Softmax) -> int | None:
    """The only product that scores are made of element by element."""
    types = asg.value_types
    size = types[softmax.scores].size
    found: set[int] = set()
    stack, seen = [softmax.scores], {softmax.scores}
    while stack:
        value = stack.pop()
        maker = asg.producers[value]
        if maker < 0 or types[value].size != size:
            continue
        node = asg.nodes[maker]
        if node.primitive.name == "dot_general":
            found.add(value)
        elif _is_looked_through(node, [types[i] for i in node.inputs]):
            new = set(node.inputs) - seen
            seen |= new
            stack += new
    return found.pop() if len(found) == 1 else None


def _is_looked_through(node: Node, in_types: Sequence[ArrayType]) -> bool:
    if node.primitive.name == "reduce_sum":
        return reduces_nothing(node, in_types[0].shape)
    return role_of(node, in_types) in (ELEMENTWISE, VIEW)


class _Finder:
    """Looks at what is made of the exponentials of one softmax."""

    total: int  # the term that they are divided by
    result: Use
    batch: frozenset[Axis]
    rows: frozenset[Axis]

    def __init__(self, asg: Asg, softmax: Softmax, product: int, frame: Frame, target: Target):
        self.asg, self.types = asg, asg.value_types
        self.softmax, self.product, self.frame, self.target = softmax, product, frame, target
        terms = self.terms = frame.terms
        self.column = terms.column_axis
        self.scores = terms.at(softmax.scores, frame.scores)
        self.exponential = terms.at(softmax.exponentials, frame.scores)
        self.raw_total = terms.intern("reduce_sum", self.exponential)
        self.algebra = Algebra(terms, (self.exponential, self.raw_total))

    def find(self) -> Found | None:
        guarded = self._guards_maximum()
        if guarded is None:
            return None
        weights: list[Use] = []
        rest: list[Use] = []
        totals: set[int] = set()
        for use in self.frame.uses:
            total = self._total_of_weights(self.algebra.of(self.frame.term(use.value)))
            if total is None:
                rest.append(use)
            else:
                weights.append(use)
                totals.add(total)
        results = [use for use in weights if use.contracted == {self.column}]
        if len(results) != 1 or len(totals) != 1:
            return None
        (self.result,), (self.total,) = results, totals
        weights.remove(self.result)
        if len(weights) > 1 or not self._find_axes():
            return None
        band, row = find_band(self.terms, self.frame, self.scores, self.rows)
        gradient = None
        if weights or rest:
            gradient = self._gradient(weights[0] if weights else None, rest)
            if gradient is None:
                return None
        return Found(
            self.asg, self.softmax, self.product, self.frame, self.result, self.rows, self.batch,
            guarded and self.total != self.raw_total, band, row, gradient,
        )  # fmt: skip

    # ------------------------------------------------------------------ softmax
    def _guards_maximum(self) -> bool | None:
        """Whether what is subtracted is 0 where the maximum is -inf; None if it is not the maximum of the scores."""
        terms = self.terms
        found = terms.at(
            self.softmax.subtracted, self.frame.scores if self.types[self.softmax.subtracted].shape else ()
        )
        largest = terms.intern("reduce_max", self.scores)
        if found == largest:
            return False
        return True if self._is_replaced(found, largest, -math.inf, 0.0) else None

    def _is_replaced(self, term: int, value: int, number: float, by: float) -> bool:
        """Whether a term is a value, but `by` where that is `number`."""
        terms = self.terms
        chosen = terms.operation(term, "select_n")
        if chosen is None or len(chosen) != 3 or chosen[1] != value or terms.constant(chosen[2]) != by:
            return False
        return self._is_equal(chosen[0], value, number)

    def _is_equal(self, term: int, value: int, number: float) -> bool:
        compared = self.terms.operation(term, "eq")
        if compared is None or value not in compared:
            return False
        return self.terms.constant(compared[1 - compared.index(value)]) == number

    def _total_of_weights(self, found: Polynomial) -> int | None:
        """The term that exponentials are divided by (their sum, or 1 where that is 0), if a polynomial is the weights."""
        if len(found) != 1:
            return None
        ((monomial, c),) = found.items()
        powers = dict(monomial)
        if c != 1 or len(powers) != 2 or powers.pop(self.exponential, 0) != 1:
            return None
        ((total, power),) = powers.items()
        is_total = total == self.raw_total or self._is_replaced(total, self.raw_total, 0.0, 1.0)
        return total if power == -1 and is_total else None

    def _find_axes(self) -> bool:
        """Tells rows from batch, and whether there are kernels for these sizes and types."""
        types, frame, out = self.types, self.frame, self.result
        own = {self.column, *axes_of((frame.inner, self.terms.summed(out.size)))}
        self.batch = (axes_of(out.other[1]) | axes_of(frame.key[1])) - own
        self.rows = frozenset(frame.axes) - self.batch - {self.column}
        values = (
            self.product,
            self.softmax.scores,
            self.softmax.exponentials,
            frame.query[0],
            frame.key[0],
            out.other[0],
        )
        # kernels compute in 32 bits
        if any(
            t.dtype.kind not in "fV" or t.dtype.itemsize > 4 or not self.target.types.holds(t.dtype)
            for t in (types[v] for v in values)
        ):
            return False
        if max(frame.size, out.size) > LARGEST_HEAD:
            return False
        return math.prod(a.size for a in self.rows) >= FEW_QUERIES or self.column.size <= MANY_KEYS

    # ------------------------------------------------------------------ its gradient
    def _gradient(self, value: Use | None, rest: Sequence[Use]) -> FoundGradient | None:
        """What the other uses are, if they are the gradients of queries, keys and values."""
        terms, frame = self.terms, self.frame
        if not 1 <= len(rest) <= 2:
            return None
        values = terms.operand(*self.result.other)
        weight_gradient: int | None = None
        query = key = None
        for use in rest:
            found = self.algebra.of(frame.term(use.value))
            products = {
                f
                for monomial in found
                for f, _ in monomial
                if terms.keys[f][0] == "dot" and values in terms.arguments(f)
            }
            if len(products) != 1 or weight_gradient not in (None, *products):
                return None
            (weight_gradient,) = products
            if not self._is_score_gradient(found, weight_gradient):
                return None
            other = terms.operand(*use.other)
            if use.contracted == {self.column} and query is None and other == terms.operand(*frame.key):
                query = use
            elif use.contracted == self.rows and key is None and other == terms.operand(*frame.query):
                key = use
            else:
                return None
        assert weight_gradient is not None
        arguments = list(terms.arguments(weight_gradient))
        arguments.remove(values)
        if value is not None and (value.contracted != self.rows or terms.operand(*value.other) != arguments[0]):
            return None
        makers = [
            v for v, places in list(terms.places.items())
            if self._is_product(v) and len(places) == 1 and terms.at(v, next(iter(places))) == weight_gradient
        ]  # fmt: skip
        if len(makers) != 1:
            return None
        sums = self._row_sums(weight_gradient)
        return None if sums is None else FoundGradient(makers[0], values, sums, query, key, value)

    def _is_product(self, value: int) -> bool:
        maker = self.asg.producers[value]
        return maker >= 0 and self.asg.nodes[maker].primitive.name == "dot_general"

    def _weighted_sum(self, weight_gradient: int) -> int:
        """The sum over keys of exponentials times the gradients of weights."""
        return self.terms.intern("sum", tuple(sorted(((self.exponential, 1), (weight_gradient, 1)))))

    def _is_score_gradient(self, found: Polynomial, weight_gradient: int) -> bool:
        """Whether a polynomial is c E (G / L - sum(E G) / L^2), where c has nothing to do with E, G, L."""
        terms, e = self.terms, self.exponential
        total = self._weighted_sum(weight_gradient)
        parts: dict[int, dict[Monomial, float]] = {weight_gradient: {}, total: {}}
        for monomial, c in found.items():
            powers = dict(monomial)
            if powers.pop(e, 0) != 1:
                return False
            # where the sum is 0, so are all exponentials
            powers = {f: n for f, n in powers.items() if not self._holds_where_not_empty(f)}
            which = next((w for w in parts if powers.pop(w, 0) == 1), None)
            if which is None or powers.pop(self.total, 0) != (-1 if which == weight_gradient else -2):
                return False
            rest = frozenset(powers.items())
            parts[which][rest] = parts[which].get(rest, 0.0) + c
        first, second = parts[weight_gradient], parts[total]
        special = frozenset((e, self.raw_total, self.total, weight_gradient, total))
        if any(terms.contains(f, special) for monomial in first for f, _ in monomial):
            return False
        same = first.keys() == second.keys() and bool(first)
        return same and all(math.isclose(first[m], -second[m], rel_tol=1e-6) for m in first)

    def _holds_where_not_empty(self, term: int) -> bool:
        key = self.terms.keys[term]
        return key[0] == "holds" and key[2] is False and self._is_equal(key[1], self.raw_total, 0.0)

    def _row_sums(self, weight_gradient: int) -> tuple[int, ...] | None:
        """The values that are sums over keys of the weighted gradients, times factors of a row."""
        total = self._weighted_sum(weight_gradient)
        found = []
        for value, places in list(self.terms.places.items()):
            maker = self.asg.producers[value]
            node = self.asg.nodes[maker] if maker >= 0 else None
            if node is None or node.primitive.name != "reduce_sum" or value == self.softmax.total:
                continue
            if reduces_nothing(node, self.types[node.inputs[0]].shape):
                continue
            for at in list(places):
                polynomial = self.algebra.of(self.terms.at(value, at))
                if any(f == total for monomial in polynomial for f, _ in monomial):
                    if len(polynomial) != 1:
                        return None
                    found.append(value)
        return tuple(dict.fromkeys(found))
