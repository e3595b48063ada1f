"""`jit`: trace once for each kind of arguments, compile, then only run."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np

from asgfn.backend import Backend, backend_of, get_backend, open_early, prepare_early
from asgfn.config import config
from asgfn.donation import delete_donated, donated_buffers
from asgfn.errors import BackendError, TransformError
from asgfn.graph.asg import Asg
from asgfn.graph.cost import cost
from asgfn.pause import no_collection
from asgfn.primitives.check import refuse_checks
from asgfn.tracing import ConcreteArray, Tracer, as_array, bind, concrete, state
from asgfn.transforms.call import jit_p
from asgfn.transforms.function import as_function, check_leaves, function_name, leaf_names, trace_to_graph
from asgfn.transforms.shapes import ShapeDtypeStruct, eval_shape
from asgfn.transforms.static import StaticArguments
from asgfn.tree.reader import reader
from asgfn.tree_util import tree_flatten, tree_structure, tree_unflatten


class _Entry:
    """What is remembered for one kind of arguments."""

    __slots__ = ("asg", "donated", "executable", "out_tree", "out_types", "run")

    def __init__(self, asg: Asg, out_tree: Any):
        self.asg = asg
        self.out_tree = out_tree
        self.out_types = asg.out_types
        self.executable: Any = None
        self.donated: list[bool] = []  # which inputs the call may overwrite; known once compiled
        self.run: Any = None  # the executable's, if it has one: from arrays to arrays


def _report(message: str, *args: Any) -> None:
    """Logs what the user asked to be told (log_compiles, explain_cache_misses)."""
    import logging  # here: importing asgfn stays fast

    logging.getLogger("asgfn").warning(message, *args)


def _listed(part: Any) -> str:
    return "(" + ", ".join(map(str, part)) + ")" if isinstance(part, tuple) else str(part)


# traces and programs belong to the function, not to the wrapper: jit(f) twice compiles once
_caches: weakref.WeakKeyDictionary[Any, dict[Any, dict[Any, _Entry]]] = weakref.WeakKeyDictionary()


def _cache_of(fun: Any, options: tuple) -> dict[Any, _Entry]:
    try:
        return _caches.setdefault(fun, {}).setdefault(options, {})
    except TypeError:  # not hashable, or no weak references to it
        return {}


def clear_jit_caches() -> None:
    """Forgets what every jitted function has traced and compiled."""
    for by_options in _caches.values():
        for cache in by_options.values():
            cache.clear()


_ARRAYS: frozenset[type] = frozenset({ConcreteArray, Tracer})
# what is certainly no node of a tree
_LEAVES: frozenset[type] = frozenset({ConcreteArray, Tracer, np.ndarray, bool, int, float, complex})


class Jitted:
    """A jitted function. Calling it traces and compiles for new shapes, dtypes, structures and static values; then it runs."""

    def __init__(
        self,
        fun: Callable,
        static_argnums: int | Sequence[int] | None = None,
        static_argnames: str | Sequence[str] | None = None,
        donate_argnums: int | Sequence[int] | None = None,
        donate_argnames: str | Sequence[str] | None = None,
        keep_unused: bool = False,
        device: Any = None,
        backend: str | None = None,
        inline: bool = False,
    ):
        self._fun = as_function("jit", fun)
        self._name = function_name(fun)
        self._static = StaticArguments(self._fun, static_argnums, static_argnames)
        self._donate = StaticArguments(self._fun, donate_argnums, donate_argnames)
        if device is not None:
            backend = backend_of(device, f"jit({self._name})").name
        both = set(self._static.nums) & set(self._donate.nums)
        if both:
            raise ValueError(f"jit({self._name}): arguments {sorted(both)} are both static and donated")
        self._is_static, self._donates = bool(self._static), bool(self._donate)
        self._backend = backend
        self._inline = inline
        self._cache = _cache_of(
            fun, (self._static.nums, self._static.names, self._donate.nums, self._donate.names, backend)
        )
        # the structure of the last call's arguments, and what reads such trees
        self._known: tuple[Any, Callable[[Any], list[Any] | None]] | None = None
        update_wrapper(self, self._fun, updated=())
        del keep_unused
        prepare_early(backend)

    # ------------------------------------------------------------------ calling
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if config.disable_jit:
            return self._fun(*args, **kwargs)
        if self._is_static:
            fun, args, kwargs, static_key = self._split(args, kwargs)
        else:
            fun, static_key = self._fun, None
        leaves: Sequence[Any]
        tree: Any  # or the number of arguments, where these are the leaves
        traced = state.staging is not None
        # lists inside all(...): a generator is slower
        if kwargs or not all([type(x) is ConcreteArray for x in args]):  # noqa: C419
            leaves, tree = self._flatten(args, kwargs)
            kinds = set(map(type, leaves))
            if not kinds <= _ARRAYS:
                leaves = self._arrays(leaves, args, kwargs)
                kinds = set(map(type, leaves))
            traced = traced or Tracer in kinds
        else:  # plain arrays: no structure to take apart
            leaves, tree = args, len(args)
        key = (tuple([x.aval for x in leaves]), tree, static_key, config.trace_key, state.axes)
        entry = self._cache.get(key)
        if entry is None:
            if config.explain_cache_misses:
                self._explain_miss(key)
            if not traced:
                open_early(self._backend)
            entry, captured = self._trace(fun, args, kwargs, [x.aval for x in leaves])
            if captured:  # the graph reads values of enclosing traces, so it is good for this call only
                return self._call_traced(entry, [*leaves, *captured])
            self._cache[key] = entry
        if traced:
            return self._call_traced(entry, leaves)
        executable = entry.executable
        if executable is None:
            executable = entry.executable = self._compile(entry, args, kwargs)
        if entry.run is not None:
            return tree_unflatten(entry.out_tree, entry.run(leaves, entry.out_types))
        if self._donates:
            outs = executable(donated_buffers(leaves, entry.donated))
            delete_donated(leaves, entry.donated)
        else:
            outs = executable([x.buffer if type(x.buffer) is np.ndarray else x.value for x in leaves])
        return tree_unflatten(entry.out_tree, list(map(concrete, outs, entry.out_types)))

    def _flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Any]:
        """The leaves of arguments, and their structure, or their number where they are leaves themselves."""
        known = self._known
        if known is not None and not kwargs:  # what the last call had is expected again
            found = known[1](args)
            if found is not None and _LEAVES.issuperset(map(type, found)):
                return found, known[0]
        leaves, tree = tree_flatten((args, kwargs))
        if not kwargs and len(leaves) == len(args) and all([x is a for x, a in zip(leaves, args, strict=True)]):  # noqa: C419
            return leaves, len(args)
        if not kwargs:
            read = reader(tree.child(0))
            self._known = None if read is None else (tree, read)
        return leaves, tree

    def _split(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple:
        dynamic, named, static, static_named = self._static.split(args, kwargs)
        key = (static, static_named, tuple(type(v) for _, v in (*static, *static_named)))
        try:
            hash(key)
        except TypeError:
            for where, value in (*static, *static_named):
                try:
                    hash(value)
                except TypeError:
                    label = (
                        where
                        if isinstance(where, str)
                        else self._static.positional[where]
                        if where < len(self._static.positional)
                        else f"number {where}"
                    )
                    raise TransformError(
                        f"jit({self._name}): static argument {label} = {value!r} of type {type(value).__name__} is not hashable. Static arguments are part of the cache key: "
                        "use a tuple instead of a list, a frozen dataclass instead of a dict, or pass arrays as ordinary arguments"
                    ) from None
            raise
        return self._static.fill(static, static_named), dynamic, named, key

    def _arrays(self, leaves: Sequence[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        return check_leaves(leaves, lambda: leaf_names(self._fun, args, kwargs), "jit", self._fun)

    def _trace(
        self, fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], types: Sequence[Any]
    ) -> tuple[_Entry, list[Any]]:
        with no_collection():
            asg, captured, out_tree = trace_to_graph(fun, args, kwargs, why="jit", types=types)
        return _Entry(asg if asg.name == self._name else asg.replace(name=self._name), out_tree), captured

    def _call_traced(self, entry: _Entry, leaves: Sequence[Any]) -> Any:
        outs = bind(jit_p, *leaves, asg=entry.asg, name=self._name)
        return tree_unflatten(entry.out_tree, outs)

    def _compile(self, entry: _Entry, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        refuse_checks(entry.asg)
        started = time.perf_counter()
        entry.donated = self._donated(args, kwargs)
        with no_collection():
            executable = get_backend(self._backend).compile(entry.asg, entry.donated)
        entry.run = getattr(executable, "run", None)
        if config.log_compiles:
            types = ", ".join(map(str, entry.asg.inputs))
            _report(
                "compiled %s(%s): %d nodes in %.1f ms",
                self._name,
                types,
                len(entry.asg.nodes),
                1e3 * (time.perf_counter() - started),
            )
        return executable

    def _explain_miss(self, key: tuple) -> None:
        """Logs what differs from the most similar call so far."""
        parts = ("shapes and dtypes", "structure of the arguments", "static arguments", "settings", "mapped axes")
        if not self._cache:
            _report("%s: traced for the first time", self._name)
            return
        nearest = max(self._cache, key=lambda known: sum(a == b for a, b in zip(known, key, strict=True)))
        changed = [
            f"{what}: {_listed(before)} -> {_listed(now)}"
            for what, before, now in zip(parts, nearest, key, strict=True)
            if before != now
        ]
        _report("%s: traced again because of new %s", self._name, "; ".join(changed))

    # ------------------------------------------------------------------ donation
    def _donated(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[bool]:
        if not self._donates:
            return []
        marks: list[bool] = []
        donated = self._dynamic_positions(len(args))
        for i, a in enumerate(args):
            marks += [i in donated] * tree_structure(a).num_leaves
        for k in sorted(kwargs):
            marks += [k in self._donate.names] * tree_structure(kwargs[k]).num_leaves
        return marks if any(marks) else []

    def _dynamic_positions(self, n: int) -> set[int]:
        """Positions of donated arguments among those that are not static."""
        dynamic = [i for i in range(n + len(self._static.nums)) if i not in self._static.nums]
        return {k for k, i in enumerate(dynamic) if i in self._donate.nums}

    # ------------------------------------------------------------------ ahead of time
    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The graph for these arguments (arrays or `ShapeDtypeStruct`s), ready to be compiled."""
        fun, dynamic, named = self._static.bind(args, kwargs)
        entry, captured = self._trace(fun, dynamic, named, None)  # type: ignore[arg-type]
        if captured:
            raise TransformError(
                f"lower({self._name}): the function uses traced values of an enclosing function; pass them as arguments"
            )
        tree = tree_structure((tuple(dynamic), named))
        return Lowered(self, entry, tree, self._donated(dynamic, named), self._static)

    def trace(self, *args: Any, **kwargs: Any) -> Lowered:
        """Same as `lower`: in asgfn a traced program is a graph already."""
        return self.lower(*args, **kwargs)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Types of the result as `ShapeDtypeStruct`s, without computing anything."""
        fun, dynamic, named = self._static.bind(args, kwargs)
        return eval_shape(fun, *dynamic, **named)

    def clear_cache(self) -> None:
        """Forgets everything traced and compiled."""
        self._cache.clear()

    def _cache_size(self) -> int:
        return len(self._cache)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: binds like a function does."""
        if instance is None:
            return self
        from functools import partial

        return partial(self, instance)

    def __repr__(self) -> str:
        return f"<jitted {self._name}>"


class Lowered:
    """A traced program for given argument types."""

    def __init__(self, jitted: Jitted, entry: _Entry, in_tree: Any, donated: Sequence[bool], static: StaticArguments):
        self._jitted = jitted
        self._entry = entry
        self.in_tree = in_tree
        self.out_tree = entry.out_tree
        self._donated = donated
        self._static = static

    @property
    def asg(self) -> Asg:
        """The graph."""
        return self._entry.asg.replace(in_tree=self.in_tree, out_tree=self.out_tree)

    jaxpr = asg

    @property
    def in_avals(self) -> tuple:
        return self.asg.inputs

    @property
    def out_info(self) -> Any:
        """Types of the result."""
        return tree_unflatten(
            self.out_tree, [ShapeDtypeStruct(t.shape, t.dtype, weak_type=t.weak_type) for t in self.asg.out_types]
        )

    def as_text(self, dialect: str | None = None) -> str:
        """The graph as text."""
        return self.asg.text()

    def lower(self) -> Lowered:
        return self

    def compile(self) -> Compiled:
        """Compiles for the function's backend."""
        refuse_checks(self._entry.asg)
        with no_collection():
            backend = get_backend(self._jitted._backend)
            return Compiled(self, backend.compile(self._entry.asg, self._donated), backend)

    def __repr__(self) -> str:
        return f"<lowered {self._entry.asg.name}: {len(self._entry.asg.nodes)} nodes>"


class Compiled:
    """A compiled program: called with arguments of the types that it was lowered for."""

    def __init__(self, lowered: Lowered, executable: Any, backend: Backend):
        self._lowered = lowered
        self._backend = backend
        self.executable = executable

    @property
    def asg(self) -> Asg:
        """The graph that was compiled."""
        return self._lowered.asg

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by use: arguments, outputs, constants, temporaries, total."""
        return self.executable.memory

    def memory_analysis(self) -> dict[str, int]:
        return self.memory

    def cost_analysis(self) -> dict[str, float]:
        """Floating point operations and bytes, estimated from the graph."""
        return cost(self.asg)

    def as_text(self) -> str:
        """What was compiled, as text."""
        return self.executable.as_text()

    @property
    def kernels(self) -> list[Any]:
        """The kernels in order: records with name, kind, source, grid, bytes and FLOPs.

        Raises:
            BackendError: the backend has no kernels.
        """
        return self._of_executable("kernels")

    @property
    def host_nodes(self) -> list[str]:
        """Operations that the host computes because the device cannot, each with the reason.

        Raises:
            BackendError: the backend has no other device than the host.
        """
        return self._of_executable("host_nodes")

    def profile(self, *args: Any, repeats: int = 10, **kwargs: Any) -> Any:
        """How long the device takes for each kernel, as a record: it prints as a table, and `plot()` draws a timeline.

        Arguments:
            args, kwargs: those of a call. Donated ones are not deleted.
            repeats: over how many calls the times are means.

        Raises:
            BackendError: the backend cannot time kernels.
        """
        timed = self._of_executable("profile")
        return timed(self._arrays(args, kwargs)[0], repeats)

    def _of_executable(self, name: str) -> Any:
        if not hasattr(self.executable, name):
            raise BackendError(
                f"compiled {self._lowered._entry.asg.name}: backend {self._backend.name!r} has no {name}; "
                "backends that compile kernels have (jit(..., backend='wgpu'))"
            )
        return getattr(self.executable, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arrays, leaves = self._arrays(args, kwargs)
        lowered = self._lowered
        if hasattr(self.executable, "run"):
            return tree_unflatten(lowered.out_tree, self.executable.run(arrays, lowered._entry.out_types))
        outs = self.executable(donated_buffers(arrays, lowered._donated))
        delete_donated(leaves, lowered._donated)
        return tree_unflatten(lowered.out_tree, list(map(concrete, outs, lowered._entry.out_types)))

    def _arrays(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        """The arguments as arrays, and as they were given.

        Raises:
            TransformError: they are not what was compiled for.
        """
        leaves, tree = tree_flatten((args, kwargs))
        lowered = self._lowered
        name = lowered._entry.asg.name
        if tree != lowered.in_tree:
            raise TransformError(
                f"compiled {name}: it takes arguments of structure {lowered.in_tree}, got {tree} (static arguments are left out)"
            )
        arrays = [as_array(x) for x in leaves]
        if any(type(x) is Tracer for x in arrays):
            raise TransformError(
                f"compiled {name}: a compiled program cannot be transformed or called on traced values; use the jitted function"
            )
        for k, (x, t) in enumerate(zip(arrays, lowered._entry.asg.inputs, strict=True)):
            if x.shape != t.shape or x.dtype != t.dtype:
                raise TransformError(
                    f"compiled {name}: argument {lowered._entry.asg.input_names[k]} was compiled as {t}, called with {x.aval}; compile again for other types"
                )
        return arrays, leaves


def jit(fun: Callable | None = None, **options: Any) -> Any:
    """Compiles a function the first time it is called with arguments of given shapes, dtypes and structure.

    Arguments:
        fun: a function from pytrees of arrays to a pytree of arrays.
        static_argnums, static_argnames: arguments that are Python values, part of the program; they must be hashable, and
            each new value compiles anew.
        donate_argnums, donate_argnames: arguments whose memory the call may reuse; they are deleted by it.
        backend: name of the backend; by default the configured one.
        device: a device, or its name, whose backend is used instead.

    Also usable as a decorator with options: ``@jit(static_argnums=0)``.

    Raises (when called):
        ConcretizationError: the function asks for the value of a traced argument (``if x > 0``).
        TransformError: a static argument is not hashable.
    """
    if fun is None:
        return lambda f: Jitted(f, **options)
    return Jitted(fun, **options)


__all__ = ["Compiled", "Jitted", "Lowered", "jit"]
