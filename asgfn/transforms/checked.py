"""Checks as values: a graph that may fail becomes one that also returns whether it has failed, and how.

The state that goes through the new graph is the number of the place (`Site`) that failed first, 0 while there is none, and
the values for its message. Places whose values have the same types share the memory for them. Every node that can fail,
and every graph inside (branches, loop bodies, calls), hands the state on; a loop ends when something has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from asgfn.errors import CheckifyError, FailedCheckError
from asgfn.graph.asg import Asg, Node
from asgfn.graph.edit import reorder
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Zero, tangent_type, zeros_like_type
from asgfn.primitives.callbacks import stop_gradient
from asgfn.primitives.check import Site, check_p
from asgfn.primitives.elementwise import bitwise_and, bitwise_not, eq, select
from asgfn.tracing import as_array, bind, trace_flat
from asgfn.transforms.automatic_checks import Errors, evaluate_site, sites_of
from asgfn.transforms.custom_rules import Rule
from asgfn.transforms.interpret import constant_arrays, node_contexts, run

# which parameters of a primitive hold graphs that it runs
_BODIES = {
    **dict.fromkeys(("jit", "checkpoint", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call", "scan"), ("asg",)),
    "cond": ("branches",),
    "while": ("cond", "body"),
    "custom_linear_solve": ("solve",),
}


def _bodies(node: Node) -> list[Asg]:
    found: list[Asg] = []
    for name in _BODIES.get(node.primitive.name, ()):
        value = node.params[name]
        found.extend(value if isinstance(value, tuple) else (value,))
    return found


class Plan:
    """The places in a program that can fail, numbered from 1, and how the state is laid out."""

    def __init__(self, sites: tuple[Site, ...], errors: Errors):
        self.sites = sites
        self.errors = errors
        self._key = (sites, errors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def codes(self) -> dict[Site, int]:
        return {site: k for k, site in enumerate(self.sites, start=1)}

    @cached_property
    def _slots(self) -> dict[tuple[ArrayType, ...], int]:
        slots: dict[tuple[ArrayType, ...], int] = {}
        at = 1
        for site in self.sites:
            if site.types and site.types not in slots:
                slots[site.types] = at
                at += len(site.types)
        return slots

    @cached_property
    def types(self) -> tuple[ArrayType, ...]:
        """The types of the state."""
        return (ArrayType((), np.dtype(np.int32)), *(t for types in self._slots for t in types))

    def values(self, state: Sequence[Any], site: Site) -> Sequence[Any]:
        """The part of the state that is about this place."""
        at = self._slots.get(site.types, 0)
        return state[at : at + len(site.types)]

    def initial(self) -> list[Any]:
        """The state in which nothing has failed."""
        return [as_array(zeros_like_type(t)) for t in self.types]

    def update(self, state: list[Any], site: Site, failed: Any, values: Sequence[Any]) -> None:
        """Notes in the state that a place failed, unless another one has failed before."""
        code = state[0]
        first = bitwise_and(failed, eq(code, np.int32(0)))
        state[0] = select(first, as_array(np.int32(self.codes[site])), code)
        at = self._slots.get(site.types, 0)
        for k, value in enumerate(values):
            state[at + k] = select(first, stop_gradient(value), state[at + k])


@lru_cache(maxsize=1024)
def find_sites(asg: Asg, errors: Errors) -> tuple[Site, ...]:
    """The places in a graph, inner ones included, where one of these errors can happen."""
    found: dict[Site, None] = {}
    types = asg.value_types
    for node in asg.nodes:
        if node.primitive is check_p:
            if FailedCheckError in errors:
                found[node.params["site"]] = None
            continue
        for body in _bodies(node):
            found.update(dict.fromkeys(find_sites(body, errors)))
        found.update(dict.fromkeys(sites_of(node, [types[i] for i in node.inputs], errors)))
    return tuple(found)


@lru_cache(maxsize=1024)
def _has_checks(asg: Asg) -> bool:
    return any(n.primitive is check_p or any(map(_has_checks, _bodies(n))) for n in asg.nodes)


def checked_run(asg: Asg, plan: Plan, state: Sequence[Any], args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Applies a graph, with checks. Returns the new state and the outputs."""
    state = list(state)
    env: list[Any] = [*args, *constant_arrays(asg)]
    types, dead_after = asg.value_types, asg.dead_after
    with node_contexts() as enter:
        for index, node in enumerate(asg.nodes):
            enter(node)
            prim = node.primitive
            operands = [env[i] for i in node.inputs]
            if prim is check_p:
                site = node.params["site"]
                if site in plan.codes:
                    plan.update(state, site, bitwise_not(operands[0]), operands[1:])
                continue
            bodies = _bodies(node)
            if any(find_sites(g, plan.errors) or _has_checks(g) for g in bodies):
                state, outs = _RULES[prim.name](node, plan, state, operands)
            else:
                out = bind(prim, *operands, **node.params)
                outs = out if prim.multiple_results else (out,)
            for site in sites_of(node, [types[i] for i in node.inputs], plan.errors):
                plan.update(state, site, *evaluate_site(site, node, operands, outs))
            env.extend(outs)
            for i in dead_after[index]:
                env[i] = None
    return state, [env[i] for i in asg.outputs]


@lru_cache(maxsize=1024)
def checked_graph(asg: Asg, plan: Plan) -> Asg:
    """A graph from (state, inputs) to (state, outputs)."""
    n = len(plan.types)

    def rewritten(*args: Any) -> list[Any]:
        state, outs = checked_run(asg, plan, args[:n], args[n:])
        return [*state, *outs]

    return trace_flat(rewritten, [*plan.types, *asg.inputs], name=asg.name, why="checkify")[0]


# ---------------------------------------------------------------------------------------------- nodes that hold graphs
Result = tuple[list[Any], Sequence[Any]]


def _split(plan: Plan, outs: Sequence[Any]) -> Result:
    n = len(plan.types)
    return list(outs[:n]), outs[n:]


def _call(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    graph = checked_graph(node.params["asg"], plan)
    return _split(plan, bind(node.primitive, *state, *operands, **{**node.params, "asg": graph}))


def _custom_jvp(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    """The function is checked; its rule stays as it is, and the state has no tangent."""
    asg, rule, n = node.params["asg"], node.params["rule"], len(plan.types)
    graph = checked_graph(asg, plan)

    def checked_rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        after = run(graph, primals)[:n]
        outs, moved = rule(primals[n:], tangents[n:])
        return (*after, *outs), (*(Zero(tangent_type(t)) for t in plan.types), *moved)

    wrapped = Rule(asg.name, checked_rule, "checked", rule, plan, asg)
    return _split(plan, bind(node.primitive, *state, *operands, asg=graph, rule=wrapped))


def _custom_vjp(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    asg, fwd, bwd, n = node.params["asg"], node.params["fwd"], node.params["bwd"], len(plan.types)
    graph = checked_graph(asg, plan)

    def checked_fwd(primals: Sequence[Any], nonzero: tuple) -> tuple:
        after = run(graph, primals)[:n]
        outs, residuals, tree = fwd(primals[n:], nonzero[n:])
        return (*after, *outs), residuals, tree

    def checked_bwd(tree: Any, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        return [*(Zero(tangent_type(t)) for t in plan.types), *bwd(tree, residuals, cts[n:])]

    key = ("checked", plan, asg)
    rules = {"fwd": Rule(asg.name, checked_fwd, *key, fwd), "bwd": Rule(asg.name, checked_bwd, *key, bwd)}
    return _split(plan, bind(node.primitive, *state, *operands, asg=graph, **rules))


def _inline(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    return checked_run(node.params["asg"], plan, state, operands)


def _cond(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    branches = tuple(checked_graph(b, plan) for b in node.params["branches"])
    return _split(plan, bind(node.primitive, operands[0], *state, *operands[1:], branches=branches))


def _scan(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    k, n = node.params["num_consts"], len(plan.types)
    graph = checked_graph(node.params["asg"], plan)
    body = reorder(graph, [*range(n, n + k), *range(n), *range(n + k, len(graph.inputs))])
    params = {**node.params, "asg": body, "num_carry": node.params["num_carry"] + n}
    return _split(plan, bind(node.primitive, *operands[:k], *state, *operands[k:], **params))


def _while(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    """The condition is checked where the loop begins and after every step; the state is part of the carry."""
    test, step = node.params["cond"], node.params["body"]
    nc, nb, n = node.params["num_cond_consts"], node.params["num_body_consts"], len(plan.types)
    test_can_fail = bool(find_sites(test, plan.errors)) or _has_checks(test)
    cond_consts, body_consts, carry = operands[:nc], operands[nc : nc + nb], operands[nc + nb :]

    def after_test(before: Sequence[Any], consts: Sequence[Any], values: Sequence[Any]) -> Sequence[Any]:
        return checked_run(test, plan, before, [*consts, *values])[0] if test_can_fail else before

    def goes_on(*args: Any) -> list[Any]:
        consts, before, values = args[:nc], args[nc : nc + n], args[nc + n :]
        _, (go,) = checked_run(test, plan, before, [*consts, *values])
        return [bitwise_and(go, eq(before[0], np.int32(0)))]

    def checked_step(*args: Any) -> list[Any]:
        consts, inner = args[:nc], args[nc : nc + nb]
        before, values = args[nc + nb : nc + nb + n], args[nc + nb + n :]
        after, new = checked_run(step, plan, before, [*inner, *values])
        return [*after_test(after, consts, new), *new]

    c_types, b_types, carry_types = test.inputs[:nc], step.inputs[:nb], step.inputs[nb:]
    new_test, _ = trace_flat(goes_on, [*c_types, *plan.types, *carry_types], name=test.name, why="checkify")
    new_step, _ = trace_flat(
        checked_step, [*c_types, *b_types, *plan.types, *carry_types], name=step.name, why="checkify"
    )
    state = list(after_test(state, cond_consts, carry))
    params = {**node.params, "cond": new_test, "body": new_step, "num_body_consts": nc + nb}
    return _split(plan, bind(node.primitive, *cond_consts, *cond_consts, *body_consts, *state, *carry, **params))


def _linear_solve(node: Node, plan: Plan, state: list[Any], operands: Sequence[Any]) -> Result:
    """The state goes into the solver as a constant and comes out as an auxiliary result."""
    params, k, n = node.params, node.params["num_consts"], len(plan.types)

    def lifted(graph: Asg | None, checked: bool) -> Asg | None:
        if graph is None:
            return None

        def widened(*args: Any) -> list[Any]:
            after, outs = checked_run(graph, plan, args[k : k + n], [*args[:k], *args[k + n :]])
            return [*outs, *after] if checked else outs

        types = [*graph.inputs[:k], *plan.types, *graph.inputs[k:]]
        return trace_flat(widened, types, name=graph.name, why="checkify")[0]

    outs = bind(
        node.primitive, *operands[:k], *state, *operands[k:],
        matvec=lifted(params["matvec"], False), vecmat=lifted(params["vecmat"], False),
        solve=lifted(params["solve"], True), transpose_solve=lifted(params["transpose_solve"], False), num_consts=k + n,
    )  # fmt: skip
    m = len(params["solve"].outputs)
    return list(outs[m:]), outs[:m]


_RULES: dict[str, Callable[[Node, Plan, list[Any], Sequence[Any]], Result]] = {
    "jit": _call,
    "checkpoint": _call,
    "custom_jvp_call": _custom_jvp,
    "custom_vjp_call": _custom_vjp,
    "custom_vmap_call": _inline,
    "cond": _cond,
    "scan": _scan,
    "while": _while,
    "custom_linear_solve": _linear_solve,
}

__all__ = ["CheckifyError", "Plan", "checked_graph", "checked_run", "find_sites"]
