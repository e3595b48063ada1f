"""`simplify`: the same program with less in it.

In one walk it inlines calls, merges equal nodes (common subexpressions), computes what depends on constants alone, and
applies algebra that is exact; then what nobody reads is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn.graph.asg import Asg, Node, Params
from asgfn.graph.caching import cached_by_graph
from asgfn.graph.edit import GraphBuilder, prune
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import primitive

# constants above this size are not folded: computing them again is cheaper than keeping them in the program
FOLD_LIMIT = 1 << 16
INLINED = ("jit", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call", "checkpoint")


class _Simplifier:
    def __init__(self, asg: Asg, fold: Callable | None):
        self.builder = GraphBuilder(asg.inputs, asg.constants, asg.constant_types)
        self.types: list[ArrayType] = [*asg.inputs, *asg.constant_types]
        n = len(asg.inputs)
        self.values: dict[int, np.ndarray] = {n + k: c for k, c in enumerate(asg.constants)}
        self.seen: dict[tuple, Sequence[int]] = {}
        self.made: dict[int, Node] = {}
        self.fold = fold

    # ids below the builder's inputs are final; constants that appear on the way get negative ids until the end
    def constant(self, value: np.ndarray, t: ArrayType) -> int:
        key = ("constant", t, value.tobytes() if value.size <= 64 else id(value))
        if key in self.seen:
            return self.seen[key][0]
        i = -1 - len(self.new_constants)
        self.new_constants.append((value, t))
        self.values[i] = value
        self.seen[key] = (i,)
        return i

    new_constants: list[tuple[np.ndarray, ArrayType]]

    def type(self, i: int) -> ArrayType:
        return self.types[i] if i >= 0 else self.new_constants[-1 - i][1]

    def add(self, node: Node, inputs: Sequence[int]) -> Sequence[int]:
        prim = node.primitive
        if prim.name == "optimization_barrier" or prim.is_effectful(node.params) or prim.name in ("rng_bit_generator",):
            return self._emit(node, inputs)
        simpler = _rewrite(self, prim.name, inputs, node.params, node.out_types)
        if simpler is not None:
            return simpler
        key = (prim.name, tuple(inputs), node.params, node.out_types)
        found = self.seen.get(key)
        if found is not None:
            return found
        if (
            self.fold is not None
            and not prim.holds_graphs
            and prim.category != "callback"
            and all(map(self.values.__contains__, inputs))
            and prim.name not in ("iota", "broadcast_in_dim")
            and all(t.size <= FOLD_LIMIT for t in node.out_types)
        ):
            outs = self.fold(
                prim, [self.type(i) for i in inputs], node.out_types, node.params, [self.values[i] for i in inputs]
            )
            if outs is not None:
                result: Sequence[int] = [
                    self.constant(np.array(v, copy=True), t) for v, t in zip(outs, node.out_types, strict=True)
                ]
                self.seen[key] = result
                return result
        result = self._emit(node, inputs)
        self.seen[key] = result
        return result

    def _emit(self, node: Node, inputs: Sequence[int]) -> Sequence[int]:
        result = self.builder.add(node, inputs)
        self.types.extend(node.out_types)
        if len(node.out_types) == 1:
            self.made[result[0]] = self.builder.nodes[-1]
        return result

    def walk(self, asg: Asg, inputs: Sequence[int], scope: str, source: Any, top: bool) -> list[int]:
        if top:
            env = list(range(len(asg.inputs) + len(asg.constants)))
        else:
            env = [*inputs, *(self.constant(c, t) for c, t in zip(asg.constants, asg.constant_types, strict=True))]
        for node in asg.nodes:
            args = [env[i] for i in node.inputs]
            name = node.primitive.name
            where = f"{scope}/{node.scope}" if scope and node.scope else scope or node.scope
            if name in INLINED:
                body = node.params["asg"]
                if name == "checkpoint" and node.params.get("prevent_cse", True) and args:
                    # recomputation must not be merged with the computation that it repeats
                    types = tuple(self.type(i) for i in args)
                    barrier = Node(primitive("optimization_barrier"), tuple(args), Params(), types, where, node.source)
                    args = list(self._emit(barrier, args))
                env.extend(self.walk(body, args, where, node.source or source, False))
                continue
            if where is not node.scope or node.source is None:
                node = node._replace(scope=where, source=node.source or source)
            env.extend(self.add(node, args))
        return [env[i] for i in asg.outputs]


def _rewrite(
    s: _Simplifier, name: str, inputs: Sequence[int], params: Params, out_types: Sequence[ArrayType]
) -> Sequence[int] | None:
    """An existing value that equals the node's result, or None. Only identities that hold for every bit are used."""
    rule = _RULES.get(name)
    return rule(s, inputs, params, out_types) if rule is not None else None


def _scalar_value(s: _Simplifier, i: int) -> Any:
    value = s.values.get(i)
    return value[()] if value is not None and value.ndim == 0 else None


def _same(s: _Simplifier, i: int, t: ArrayType) -> Sequence[int] | None:
    """The value itself, if it has the result's type."""
    u = s.type(i)
    return (i,) if u.shape == t.shape and u.dtype == t.dtype else None


def _times_one(s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]) -> Sequence[int] | None:
    a, b = inputs
    if _scalar_value(s, b) == 1:
        return _same(s, a, out[0])
    if _scalar_value(s, a) == 1:
        return _same(s, b, out[0])
    return None


def _divided_by_one(
    s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]
) -> Sequence[int] | None:
    return _same(s, inputs[0], out[0]) if _scalar_value(s, inputs[1]) == 1 else None


def _plus_zero(s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]) -> Sequence[int] | None:
    # x + 0.0 turns -0.0 into 0.0; x + -0.0 and x - 0.0 are exact, and so is anything for integers
    for x, z in (inputs, inputs[::-1]):
        value = _scalar_value(s, z)
        if (
            value is not None
            and value == 0
            and (out[0].dtype.kind in "iu" or (out[0].dtype.kind == "f" and np.signbit(value)))
        ):
            return _same(s, x, out[0])
    return None


def _minus_zero(
    s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]
) -> Sequence[int] | None:
    value = _scalar_value(s, inputs[1])
    if (
        value is not None
        and value == 0
        and (out[0].dtype.kind in "iu" or (out[0].dtype.kind == "f" and not np.signbit(value)))
    ):
        return _same(s, inputs[0], out[0])
    return None


def _undone_by(other: str) -> Callable:
    def rule(s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]) -> Sequence[int] | None:
        inner = s.made.get(inputs[0])
        return _same(s, inner.inputs[0], out[0]) if inner is not None and inner.primitive.name == other else None

    return rule


def _identity_shape(
    s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]
) -> Sequence[int] | None:
    """A reshape or squeeze to the same shape, or of another reshape."""
    same = _same(s, inputs[0], out[0])
    if same is not None:
        return same
    inner = s.made.get(inputs[0])
    if inner is not None and inner.primitive.name in ("reshape", "squeeze"):
        node = Node(primitive("reshape"), (), Params(new_sizes=out[0].shape), tuple(out), inner.scope, inner.source)
        return s.add(node, (inner.inputs[0],))
    return None


def _transposes(
    s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]
) -> Sequence[int] | None:
    """The identity permutation, or a transpose of a transpose."""
    order = params["permutation"]
    if order == tuple(range(len(order))):
        return (inputs[0],)
    inner = s.made.get(inputs[0])
    if inner is not None and inner.primitive.name == "transpose":
        first = inner.params["permutation"]
        node = Node(
            primitive("transpose"),
            (),
            Params(permutation=tuple(first[p] for p in order)),
            tuple(out),
            inner.scope,
            inner.source,
        )
        return s.add(node, (inner.inputs[0],))
    return None


def _conversions(
    s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]
) -> Sequence[int] | None:
    u = s.type(inputs[0])
    return (inputs[0],) if u == out[0] else None


def _nothing_to_do(
    s: _Simplifier, inputs: Sequence[int], params: Params, out: Sequence[ArrayType]
) -> Sequence[int] | None:
    return _same(s, inputs[0], out[0])


# exact identities, by operation
_RULES: dict[str, Callable] = {
    "mul": _times_one,
    "div": _divided_by_one,
    "add": _plus_zero,
    "sub": _minus_zero,
    "neg": _undone_by("neg"),
    "not": _undone_by("not"),
    "conj": _undone_by("conj"),
    "reshape": _identity_shape,
    "squeeze": _identity_shape,
    "broadcast_in_dim": _nothing_to_do,
    "transpose": _transposes,
    "convert_element_type": _conversions,
}


# under which a graph that was made here keeps what folded its constants
_FOLDED_BY = "_folded_by"


def simplify(asg: Asg, fold: Callable | None = None) -> Asg:
    """A graph that computes the same values, bit for bit, with calls inlined and redundant work removed.

    Arguments:
        fold: computes a node whose operands are constants: ``(primitive, in_types, out_types, params, values) -> values`` or
            None if it should stay. Backends pass theirs, so that folding and running agree.

    Bodies of loops and branches are simplified too. Effects are kept, in order. A graph that comes from here is as simple as
    it gets, and is returned as it is.
    """
    known = vars(asg)
    if _FOLDED_BY in known and fold in (None, known[_FOLDED_BY]):
        return asg
    return _simplified(asg, fold)


@cached_by_graph(256)
def _simplified(asg: Asg, fold: Callable | None) -> Asg:
    s = _Simplifier(asg, fold)
    s.new_constants = []
    outputs = s.walk(asg, (), "", None, True)
    n_in, n_const = len(asg.inputs), len(asg.constants)
    shift = len(s.new_constants)

    def final(i: int) -> int:
        if i < 0:
            return n_in + n_const + (-1 - i)
        return i if i < n_in + n_const else i + shift

    nodes = []
    for node in s.builder.nodes:
        if shift:
            node = node.reading(map(final, node.inputs))
        if node.primitive.holds_graphs:
            node = node._replace(params=_simplify_params(node.params, fold))
        nodes.append(node)
    result = Asg(
        asg.inputs,
        [*asg.constants, *(c for c, _ in s.new_constants)],
        nodes,
        [final(i) for i in outputs],
        constant_types=[*asg.constant_types, *(t for _, t in s.new_constants)],
        name=asg.name,
        input_names=asg.input_names,
        in_tree=asg.in_tree,
        out_tree=asg.out_tree,
    )
    result = prune(result)
    vars(result)[_FOLDED_BY] = fold
    return result


def _simplify_params(params: Params, fold: Callable | None) -> Params:
    def one(value: Any) -> Any:
        if isinstance(value, Asg):
            return simplify(value, fold)
        if isinstance(value, tuple) and value and all(isinstance(v, Asg) for v in value):
            return tuple(simplify(v, fold) for v in value)
        return value

    return Params({k: one(v) for k, v in params.items()})
