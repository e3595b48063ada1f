"""Writing LLVM IR functions with loops: what the product's generator builds its text with.

Loops carry values as phi nodes, so the text is good without any optimiser: code generation alone gives registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Carried = tuple[str, str]  # type, first value


class Text:
    """One function being written. Values and labels are numbered, so that parts may be written in any order."""

    def __init__(self, head: str):
        self.head = head
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.count = 0
        self.block = "entry"

    def op(self, text: str) -> str:
        """A line with a result, whose name it returns."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def begin(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def declare(self, result: str, name: str, *kinds: str) -> None:
        """A function that this one calls, by the types of its result and its arguments."""
        self.declared[name] = f"declare {result} @{name}({', '.join(kinds)})"

    def call(self, result: str, function: str, *arguments: tuple[str, str | int]) -> str:
        """A call of a function, which is declared, or of a pointer to one; the name of its result."""
        if not function.startswith("%"):
            self.declare(result, function, *(kind for kind, _ in arguments))
            function = f"@{function}"
        text = f"call {result} {function}({', '.join(f'{kind} {value}' for kind, value in arguments)})"
        if result == "void":
            self.do(text)
            return ""
        return self.op(text)

    def finish(self) -> str:
        """The text of a module with this function."""
        self.do("ret void")
        return "\n".join([f"{self.head} {{", "entry:", *self.lines, "}", *self.declared.values(), ""])

    # ------------------------------------------------------------------ numbers and addresses
    def add(self, a: str, b: str | int) -> str:
        return a if b in (0, "0") else self.op(f"add i64 {a}, {b}")

    def sub(self, a: str, b: str | int) -> str:
        return self.op(f"sub i64 {a}, {b}")

    def mul(self, a: str, b: str | int) -> str:
        return a if b in (1, "1") else self.op(f"mul i64 {a}, {b}")

    def div(self, a: str, b: str | int) -> str:
        return self.op(f"udiv i64 {a}, {b}")

    def least(self, a: str, b: str | int) -> str:
        return self.select(self.less(a, b), "i64", a, b)

    def most(self, a: str, b: str | int) -> str:
        return self.select(self.less(a, b), "i64", b, a)

    def less(self, a: str, b: str | int) -> str:
        return self.op(f"icmp slt i64 {a}, {b}")

    def equal(self, a: str, b: str | int) -> str:
        return self.op(f"icmp eq i64 {a}, {b}")

    def both(self, a: str, b: str) -> str:
        return self.op(f"and i1 {a}, {b}")

    def select(self, condition: str, kind: str, a: str | int, b: str | int) -> str:
        return self.op(f"select i1 {condition}, {kind} {a}, {kind} {b}")

    def at(self, scalar: str, pointer: str, index: str | int) -> str:
        """The address of an element."""
        return pointer if index in (0, "0") else self.op(f"getelementptr {scalar}, ptr {pointer}, i64 {index}")

    # ------------------------------------------------------------------ control
    def loop(
        self,
        start: str | int,
        stop: str | int,
        step: str | int,
        carried: Sequence[Carried],
        body: Callable[[str, list[str]], Sequence[str]],
    ) -> list[str]:
        """Counts from start while below stop. The body gets the counter and the carried values, and returns the next
        ones."""
        before, head, inside, after = self.block, self.label(), self.label(), self.label()
        self.do(f"br label %{head}")
        self.begin(head)
        place = len(self.lines)
        self.count += 1 + len(carried)
        index = f"%i{self.count}"
        values = [f"%c{self.count - 1 - n}" for n in range(len(carried))]
        go = self.less(index, stop)
        self.do(f"br i1 {go}, label %{inside}, label %{after}")
        self.begin(inside)
        following = body(index, values)
        again = self.add(index, step)
        last = self.block
        self.do(f"br label %{head}")
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {again}, %{last} ]"]
        for name, (kind, first), value in zip(values, carried, following, strict=True):
            phis.append(f"  {name} = phi {kind} [ {first}, %{before} ], [ {value}, %{last} ]")
        self.lines[place:place] = phis
        self.begin(after)
        return values

    def when(
        self,
        condition: str,
        then: Callable[[], Sequence[str]],
        otherwise: Sequence[Carried] | Callable[[], Sequence[str]] = (),
        kinds: Sequence[str] = (),
    ) -> list[str]:
        """Runs a part under a condition; its results, or else those of the other part or the given values."""
        before, yes, no, after = self.block, self.label(), self.label(), self.label()
        alternative = callable(otherwise)
        self.do(f"br i1 {condition}, label %{yes}, label %{no if alternative else after}")
        self.begin(yes)
        results = list(then())
        end = self.block
        self.do(f"br label %{after}")
        if callable(otherwise):
            self.begin(no)
            others = list(otherwise())
            before = self.block
            self.do(f"br label %{after}")
        else:
            kinds = [kind for kind, _ in otherwise]
            others = [value for _, value in otherwise]
        self.begin(after)
        return [
            self.op(f"phi {kind} [ {a}, %{end} ], [ {b}, %{before} ]")
            for kind, a, b in zip(kinds, results, others, strict=True)
        ]
