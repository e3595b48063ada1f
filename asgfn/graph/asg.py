"""`Node` and `Asg`: programs as immutable values.

Every value of a graph has a consecutive integer id: first the inputs, then the constants, then the outputs of each
node in order. An interpreter is therefore a list that grows:

    env = [*args, *asg.constants]
    for node in asg.nodes:
        env.extend(evaluate(node, [env[i] for i in node.inputs]))
    return [env[i] for i in asg.outputs]

and nothing that walks a graph needs recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from asgfn.graph.types import ArrayType, SourceInfo
from asgfn.records import lazy


class Params(dict):
    """A node's parameters: a read-only, hashable dict."""

    __slots__ = ("_hash",)

    _hash: int

    def __hash__(self) -> int:  # type: ignore[override]
        try:
            return self._hash
        except AttributeError:
            value = 0
            for item in self.items():
                value ^= hash(item)
            object.__setattr__(self, "_hash", value)
            return value

    def _read_only(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a node's parameters are read-only; build a new node instead")

    __setitem__ = __delitem__ = _read_only
    update = pop = popitem = clear = setdefault = _read_only  # type: ignore[assignment]
    __ior__ = _read_only  # type: ignore[assignment]

    def __reduce__(self) -> tuple:
        return Params, (dict(self),)


NO_PARAMS = Params()


class Node(NamedTuple):
    """One operation of a graph. Equality ignores `scope` and `source`: they say where a node comes from, not what it does."""

    primitive: Any
    inputs: tuple[int, ...]
    params: Params
    out_types: tuple[ArrayType, ...]
    scope: str = ""
    source: SourceInfo | None = None

    def reading(self, inputs: Iterable[int]) -> Node:
        """The node with other inputs: `_replace`, faster."""
        primitive, _, params, out_types, scope, source = self
        return tuple.__new__(Node, (primitive, tuple(inputs), params, out_types, scope, source))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Node) and self[:4] == other[:4])

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.primitive.name, self.inputs, self.params, self.out_types))


def _constants_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


class Asg:
    """An abstract semantic graph: a closed, immutable program.

    Attributes:
        inputs: the types of the inputs.
        constants: the arrays that the program holds (never written to).
        constant_types: their types (a constant can be weakly typed).
        nodes: the operations, in an order in which each comes after what it needs.
        outputs: the ids of the values that the program returns.
        name: the name of the function it was traced from.
        input_names: argument paths such as ``params['w']``, one an input.
        in_tree, out_tree: how inputs and outputs are packed for the user, or None when they are flat.

    Two graphs are equal when they compute the same thing in the same way: names, scopes, source lines and packing
    do not count. A graph is called like the function that it was traced from, and every transform takes it.
    """

    def __init__(
        self,
        inputs: Iterable[ArrayType],
        constants: Iterable[np.ndarray],
        nodes: Iterable[Node],
        outputs: Iterable[int],
        *,
        constant_types: Iterable[ArrayType] | None = None,
        name: str = "",
        input_names: Iterable[str] | None = None,
        in_tree: Any = None,
        out_tree: Any = None,
    ):
        put = self.__dict__.__setitem__
        put("inputs", tuple(inputs))
        put("constants", tuple(constants))
        if constant_types is None:
            constant_types = (ArrayType(np.shape(c), c.dtype) for c in self.constants)
        put("constant_types", tuple(constant_types))
        put("nodes", tuple(nodes))
        put("outputs", tuple(outputs))
        put("name", name)
        names = tuple(input_names) if input_names is not None else ()
        put(
            "input_names",
            names if len(names) == len(self.inputs) else tuple(f"arg{i}" for i in range(len(self.inputs))),
        )
        put("in_tree", in_tree)
        put("out_tree", out_tree)

    inputs: tuple[ArrayType, ...]
    constants: tuple[np.ndarray, ...]
    constant_types: tuple[ArrayType, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    name: str
    input_names: tuple[str, ...]
    in_tree: Any
    out_tree: Any

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an Asg is immutable: build a new one with .replace({name}=...)")

    def replace(self, **changes: Any) -> Asg:
        """A copy with some attributes replaced; the old graph stays as it was."""
        fields = {
            k: getattr(self, k)
            for k in (
                "inputs",
                "constants",
                "nodes",
                "outputs",
                "constant_types",
                "name",
                "input_names",
                "in_tree",
                "out_tree",
            )
        }
        if "constants" in changes and "constant_types" not in changes:
            fields["constant_types"] = None
        unknown = set(changes) - set(fields)
        if unknown:
            raise TypeError(f"an Asg has no attribute {sorted(unknown)}")
        fields.update(changes)
        return Asg(**fields)

    # ------------------------------------------------------------------ what a graph knows about itself
    @lazy
    def value_types(self) -> tuple[ArrayType, ...]:
        """The type of every value, by id."""
        types = [*self.inputs, *self.constant_types]
        for node in self.nodes:
            types.extend(node.out_types)
        return tuple(types)

    @lazy
    def first_outputs(self) -> tuple[int, ...]:
        """For every node the id of its first output."""
        ids = []
        at = len(self.inputs) + len(self.constants)
        for node in self.nodes:
            ids.append(at)
            at += len(node.out_types)
        return tuple(ids)

    @lazy
    def producers(self) -> tuple[int, ...]:
        """For every value the index of the node that makes it, or -1 for inputs and constants."""
        made_by = [-1] * (len(self.inputs) + len(self.constants))
        for index, node in enumerate(self.nodes):
            made_by.extend([index] * len(node.out_types))
        return tuple(made_by)

    @lazy
    def users(self) -> tuple[tuple[int, ...], ...]:
        """For every value the indices of the nodes that read it."""
        users: list[list[int]] = [[] for _ in self.value_types]
        for index, node in enumerate(self.nodes):
            for i in set(node.inputs):
                users[i].append(index)
        return tuple(map(tuple, users))

    @lazy
    def dead_after(self) -> tuple[tuple[int, ...], ...]:
        """For every node the values that nothing reads after it (outputs of the graph excepted)."""
        last = {}
        for index, node in enumerate(self.nodes):
            for i in node.inputs:
                last[i] = index
        for index, (node, first) in enumerate(zip(self.nodes, self.first_outputs, strict=True)):
            for i in range(first, first + len(node.out_types)):
                last.setdefault(i, index)
        kept = set(self.outputs)
        dead: list[list[int]] = [[] for _ in self.nodes]
        for i, index in last.items():
            if i not in kept:
                dead[index].append(i)
        return tuple(map(tuple, dead))

    @property
    def in_types(self) -> tuple[ArrayType, ...]:
        return self.inputs

    @lazy
    def out_types(self) -> tuple[ArrayType, ...]:
        types = self.value_types
        return tuple(types[i] for i in self.outputs)

    @lazy
    def inner(self) -> tuple[Asg, ...]:
        """The graphs that nodes hold as parameters (bodies of scan, branches of cond, inner jit calls, ...)."""
        return tuple(g for node in self.nodes if node.primitive.holds_graphs for g in inner_graphs(node.params))

    @lazy
    def origin(self) -> int:
        """A fingerprint of the names, scopes and source lines that equality ignores."""
        parts = [(n.scope, n.source and (n.source.file, n.source.line)) for n in self.nodes]
        return hash((self.name, self.input_names, tuple(parts), tuple(g.origin for g in self.inner)))

    @lazy
    def axis_names(self) -> frozenset:
        """Names of mapped axes that collectives of this graph, or of inner ones, refer to."""
        names: set = set()
        for node in self.nodes:
            names.update(node.params.get("axis_names", ()))
        for graph in self.inner:
            names |= graph.axis_names
        return frozenset(names)

    @lazy
    def has_effects(self) -> bool:
        """Whether running the graph does something besides computing its outputs (prints, calls back)."""
        return any(node.primitive.effect for node in self.nodes) or any(g.has_effects for g in self.inner)

    def node_count(self) -> int:
        """Number of nodes, those of inner graphs included."""
        return len(self.nodes) + sum(g.node_count() for g in self.inner)

    # ------------------------------------------------------------------ values: equality, hash, text, bytes
    @lazy
    def _hash(self) -> int:
        return hash((self.inputs, self.constant_types, self.nodes, self.outputs))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Asg):
            return NotImplemented
        return (
            self._hash == other._hash
            and self.inputs == other.inputs
            and self.constant_types == other.constant_types
            and self.outputs == other.outputs
            and self.nodes == other.nodes
            and all(map(_constants_equal, self.constants, other.constants))
        )

    @property
    def jaxpr(self) -> Asg:
        """The graph itself, for scripts that ask JAX's `make_jaxpr` for its program."""
        return self

    # what takes more than the record itself is defined beside it and installed by the package
    text: Callable[..., str]
    validate: Callable[[], Asg]
    to_bytes: Callable[[], bytes]
    from_bytes: Callable[[bytes], Asg]
    __call__: Callable[..., Any]

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def __reduce__(self) -> tuple:
        return Asg.from_bytes, (self.to_bytes(),)


def inner_graphs(params: Mapping[str, Any]) -> list[Asg]:
    """The graphs among a node's parameters."""
    found = []
    for value in params.values():
        if isinstance(value, Asg):
            found.append(value)
        elif isinstance(value, tuple):
            found.extend(v for v in value if isinstance(v, Asg))
    return found
