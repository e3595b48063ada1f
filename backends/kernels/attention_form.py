"""`attention` and `attention_gradient`: operations that compiled backends put in place of the expressions that they are.

A node holds its plain expression, so that it can also be computed without a kernel of its own: by NumPy on the host, or
element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgfn.graph.asg import Asg
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive
from asgfn.records import field, record
from backends.numpy.program import plan
from backends.numpy.registry import kernel


@record
class Gradient:
    """What an `attention_gradient` has besides.

    Attributes:
        weight_gradient: id of the product of the result's gradient and the values.
        value_side: which operand of that product is the values.
        row_sums: ids of sums over keys of weights times their gradients.
        query, key, value: for each operand the id of the product that is its gradient, and of the output made of it by
            views and conversions; None if that is not computed.
        views: from the product that is attention's result to the result, which is the input `result`.
        statistics: number of the input that holds maximum and sum of each row.
    """

    weight_gradient: int
    value_side: int
    row_sums: tuple[int, ...]
    query: tuple[int, int] | None
    key: tuple[int, int] | None
    value: tuple[int, int] | None
    views: Asg
    result: int
    statistics: int


@record
class Form:
    """An attention as an expression.

    Attributes:
        asg: the expression. All ids are those of its values.
        axis: of the scores, the one of keys.
        product: queries times keys.
        scores: what is made of the product, element by element: softmax is taken of it.
        exponentials: of the scores less their maximum.
        total: their sum (in a gradient: the value that stands for it).
        guarded: whether a row without any finite score gives zeros (otherwise it gives NaN).
        band: for a query at place t of `axes[0]`, keys outside t + band[0] ... t + band[1] have no weight; None: no limit.
        row: the axis of the scores of which t is the place.
        result: the product of weights and values, and the output made of it by views and conversions (in a gradient there is
            the product alone, for where its elements are).
        gradient: None for attention itself.
    """

    asg: Asg
    axis: int
    product: int
    scores: int
    exponentials: int
    total: int
    guarded: bool
    band: tuple[int | None, int | None]
    row: int
    result: tuple[int, int]
    gradient: Gradient | None = None
    _hash: list = field(default_factory=list, compare=False, repr=False)

    def __hash__(self) -> int:
        if not self._hash:
            self._hash.append(hash((self.asg, self.axis, self.scores, self.product, self.band, self.gradient)))
        return self._hash[0]

    def __repr__(self) -> str:
        return f"<{self.asg.name}>"


def _type_rule(*types: ArrayType, form: Form) -> tuple[ArrayType, ...]:
    return form.asg.out_types


attention_p = Primitive(
    "attention",
    category="call",
    type_rule=_type_rule,
    multiple_results=True,
    what="Attention as one operation: scores and weights exist a tile at a time.",
    formula="y = softmax(mask(q k^T)) v; also the maximum and the sum of each row of exponentials",
    why="Weights of all pairs of positions would take more memory than all else.",
)
attention_gradient_p = Primitive(
    "attention_gradient",
    category="call",
    type_rule=_type_rule,
    multiple_results=True,
    what="The gradients of attention with respect to queries, keys and values; weights are computed again.",
    formula="P = exp(S - max) / sum; dS = P (dO v^T - rowsum(dO O)); dq = dS k, dk = dS^T q, dv = P^T dO",
    why="The backward pass of attention without the weights of all pairs of positions.",
)


@kernel("attention")
@kernel("attention_gradient")
def _evaluate(in_types: Any, out_types: Any, *, form: Form) -> Callable:
    program = plan(form.asg)
    return lambda *operands: tuple(program(operands))
