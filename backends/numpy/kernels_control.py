"""NumPy execution of loops and branches: their bodies are planned once and run by Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from backends.numpy.program import plan
from backends.numpy.registry import kernel


@kernel("scan")
def _(
    in_types: Any, out_types: Any, *, asg: Any, length: int, reverse: bool, num_consts: int, num_carry: int, unroll: int
) -> Callable:
    body = plan(asg)
    first_x = num_consts + num_carry
    ys_types = out_types[num_carry:]
    steps = range(length - 1, -1, -1) if reverse else range(length)

    def scan(*args: np.ndarray) -> tuple:
        consts = args[:num_consts]
        carry = list(args[num_consts:first_x])
        xs = args[first_x:]
        ys = [np.empty(t.shape, t.dtype) for t in ys_types]
        for t in steps:
            outs = body([*consts, *carry, *[x[t] for x in xs]])
            carry = outs[:num_carry]
            for store, y in zip(ys, outs[num_carry:], strict=True):
                store[t] = y
        return (*carry, *ys)

    return scan


@kernel("cond")
def _(in_types: Any, out_types: Any, *, branches: Any) -> Callable:
    programs = [plan(b) for b in branches]
    last = len(programs) - 1

    def cond(index: np.ndarray, *operands: np.ndarray) -> tuple:
        return tuple(programs[min(max(int(index), 0), last)](operands))

    return cond


@kernel("while")
def _(
    in_types: Any, out_types: Any, *, cond: Any, body: Any, num_cond_consts: int, num_body_consts: int, max_steps: Any
) -> Callable:
    test, step = plan(cond), plan(body)
    first = num_cond_consts + num_body_consts

    def loop(*args: np.ndarray) -> tuple:
        cond_consts, body_consts, carry = args[:num_cond_consts], args[num_cond_consts:first], list(args[first:])
        while test([*cond_consts, *carry])[0]:
            carry = step([*body_consts, *carry])
        return tuple(carry)

    return loop


def _called(in_types: Any, out_types: Any, *, asg: Any, **params: Any) -> Callable:
    program = plan(asg)
    return lambda *args: tuple(program(args))


for _name in ("jit", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call", "checkpoint"):
    kernel(_name)(_called)
