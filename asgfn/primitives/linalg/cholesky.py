"""The Cholesky decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive
from asgfn.primitives.elementwise import add, div
from asgfn.primitives.linalg.matrices import (
    adjoint,
    batch_at_front,
    check_square,
    identity_like,
    lower_part,
    matmul,
    symmetrize,
)
from asgfn.primitives.linalg.triangular import solve_adjoint_right, triangular_solve
from asgfn.primitives.shaping import full_like
from asgfn.tracing import Array, as_array


def _type_rule(x: ArrayType) -> ArrayType:
    check_square("cholesky", x)
    return x.update(weak_type=False)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    """dL = L Phi(L^-1 dA L^-H), where Phi takes the lower part with half the diagonal (Murray, 2016)."""
    (x,), (dx,) = primals, tangents
    factor = cholesky_p.bind(x)
    # Only the lower triangle is read, so that is what a perturbation consists of.
    perturbation = add(lower_part(dx), adjoint(lower_part(dx, -1)))
    inner = triangular_solve(factor, solve_adjoint_right(factor, perturbation), left_side=True, lower=True)
    halved = div(lower_part(inner), add(full_like(inner, 1), identity_like(inner)))
    return factor, matmul(factor, halved)


cholesky_p = Primitive(
    "cholesky",
    category="linalg",
    type_rule=_type_rule,
    jvp=_jvp,
    batch=batch_at_front("cholesky"),
    what="Factors a positive definite matrix into a lower triangle times its adjoint.",
    formula="a = l l^H",
    why="Sampling from and evaluating normal distributions; solving positive definite systems.",
)


def cholesky(x: Any, *, symmetrize_input: bool = True) -> Array:
    """The lower triangular L with positive diagonal and x = L L^H.

    Arguments:
        x: [..., n, n], Hermitian positive definite.
        symmetrize_input: first replace x by (x + x^H) / 2, which makes the gradient symmetric; without it the lower
            triangle alone is read.

    Returns:
        L like `x`, zero above the diagonal; all NaN where a matrix is not positive definite.
    """
    x = as_array(x)
    if symmetrize_input:
        check_square("cholesky", x.aval)
        x = symmetrize(x)
    return cholesky_p.bind(x)
