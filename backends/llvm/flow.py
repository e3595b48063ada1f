"""The control flow of one function: branches, loops, which lanes are meant, and what variables hold.

What a variable holds depends on the way that led here: where ways meet there is a phi node if they differ, so that LLVM has
registers from the start and looks for none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from backends.kernels.ir import Variable
from backends.llvm.operands import Vector
from backends.llvm.writer import Writer


class Held(NamedTuple):
    """What a variable holds: values of one type, four of them for a vector of the IR."""

    type: str
    parts: tuple[str, ...]


class Flow:
    """Where in a function its text has got to.

    Attributes:
        mask: the lanes that are meant; None if all are.
        held: what each variable holds here.
    """

    def __init__(self, writer: Writer):
        self.w = writer
        self.mask: str | None = None
        self.held: dict[Variable, Held] = {}

    # ------------------------------------------------------------------ lanes that are meant
    @property
    def mask_type(self) -> str:
        return f"<{self.w.lanes} x i1>"

    def whole_mask(self) -> str:
        return self.mask or "splat (i1 true)"

    def any(self, mask: str) -> str:
        return self.w.call("i1", f"llvm.vector.reduce.or.v{self.w.lanes}i1", [(self.mask_type, mask)])

    def both(self, mask: str) -> str:
        """The lanes of a mask that are meant."""
        return mask if self.mask is None else self.w.value(f"and {self.mask_type} {self.mask}, {mask}")

    def chosen(self, t: str, text: str, otherwise: str) -> str:
        """A vector where lanes are meant, another one elsewhere."""
        if self.mask is None:
            return text
        return self.w.value(f"select {self.mask_type} {self.mask}, {t} {text}, {t} {otherwise}")

    def masked(self, mask: str, what: Callable[[], None]) -> None:
        """Does something for the lanes of a mask, if there are any."""
        outer, self.mask = self.mask, mask
        self.branch(self.any(mask), what)
        self.mask = outer

    def if_lane(self, k: int, what: Callable[[], None]) -> None:
        """Does something if a lane is meant."""
        if self.mask is None:
            what()
            return
        self.branch(self.w.element(Vector(self.mask, "bool"), k), what)

    # ------------------------------------------------------------------ branches and loops
    def branch(self, condition: str, what: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        w = self.w
        then, other, after = w.label(), w.label(), w.label()
        outside, before = w.block, self.held
        w.line(f"br i1 {condition}, label %{then}, label %{other if otherwise else after}")
        ways = [self._way(then, what, after)]
        self.held = before
        ways.append((outside, before) if otherwise is None else self._way(other, otherwise, after))
        w.start(after)
        self.held = self._met(before, ways)

    def _way(self, label: str, what: Callable[[], None], after: str) -> tuple[str, dict[Variable, Held]]:
        """A block that ends elsewhere: its last label, and what variables hold there."""
        w = self.w
        w.start(label)
        self.held = dict(self.held)
        with w.scope():
            what()
        end = w.block
        w.line(f"br label %{after}")
        return end, self.held

    def _met(self, before: dict[Variable, Held], ways: list[tuple[str, dict[Variable, Held]]]) -> dict[Variable, Held]:
        """What the variables that were there before hold where two ways meet."""
        (one, first), (two, second) = ways
        found = {}
        for variable, (t, _) in before.items():
            pairs = zip(first[variable].parts, second[variable].parts, strict=True)
            parts = [a if a == b else self.w.fresh(f"phi {t} [ {a}, %{one} ], [ {b}, %{two} ]") for a, b in pairs]
            found[variable] = Held(t, tuple(parts))
        return found

    def loop(
        self,
        counter: tuple[str, str],
        assigned: Collection[Variable],
        goes_on: Callable[[str], str],
        body: Callable[[str], None],
        step: Callable[[str], str],
        certain: bool = False,
    ) -> str:
        """Does something while a condition on a counter holds.

        Arguments:
            counter: its type and first value.
            assigned: the variables that the body may change.
            goes_on: writes the condition.
            step: writes the next value.
            certain: whether it holds for the first value: then it is not asked before the body, but after it, and a loop is
                one block if its body is.

        Returns:
            The counter at the end.
        """
        w, (kind, start), before = self.w, counter, self.held
        top, inside, after, outside = w.label(), w.label(), w.label(), w.block
        w.line(f"br label %{top}")
        w.start(top)
        place, number = len(w.lines), w.name()
        carried = {v: Held(t, tuple(w.name() for _ in parts)) for v, (t, parts) in before.items() if v in assigned}
        self.held = before | carried
        if not certain:
            w.line(f"br i1 {goes_on(number)}, label %{inside}, label %{after}")
            w.start(inside)
        with w.scope():
            body(number)
            following = step(number)
            w.line(f"br i1 {goes_on(following)}, label %{top}, label %{after}" if certain else f"br label %{top}")
        phis = [f"  {number} = phi {kind} [ {start}, %{outside} ], [ {following}, %{w.block} ]"]
        for v, (t, names) in carried.items():
            for name, a, b in zip(names, before[v].parts, self.held[v].parts, strict=True):
                phis.append(f"  {name} = phi {t} [ {a}, %{outside} ], [ {b}, %{w.block} ]")
        w.lines[place:place] = phis
        self.held = before | ({v: self.held[v] for v in carried} if certain else carried)
        w.start(after)
        return following if certain else number
