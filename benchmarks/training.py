"""What the benchmarks of training share: optimisers, and how a step is measured, in asgfn, JAX and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.timing import best_of, first_only, peak_memory, since_start, timed

STEPS = 5
LOSS = f"loss of step {STEPS}"  # of a program that goes wrong it is another


def adam(
    lib: Any, jnp: Any, loss_fn: Callable, rate: float = 1e-3, second: float = 0.999, decay: float = 0.0
) -> Callable:
    """`step(params, m, v, t, x, y) -> (params, m, v, t, loss)`: AdamW (I. Loshchilov, F. Hutter, 2019), not jitted."""

    def step(params: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = lib.value_and_grad(loss_fn)(params, x, y)
        t = t + 1
        m = lib.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = lib.tree.map(lambda v, g: second * v + (1 - second) * (g * g), v, g)
        c1, c2 = 1 / (1 - 0.9**t), 1 / jnp.sqrt(1 - second**t)

        def update(p: Any, m: Any, v: Any) -> Any:
            change = (m * c1) / (jnp.sqrt(v) * c2 + 1e-8)
            return p - rate * (change + decay * p if decay else change)

        return lib.tree.map(update, params, m, v), m, v, t, loss

    return step


def adam_state(lib: Any, params: Any) -> tuple[Any, Any, Any, np.ndarray]:
    """The state before the first step of `adam`, in NumPy."""
    zeros = lambda: lib.tree.map(np.zeros_like, params)
    return params, zeros(), zeros(), np.zeros((), np.float32)


def cross_entropy(lib: Any, jnp: Any, logits: Any, labels: Any) -> Any:
    """Mean over all labels [...] of -log softmax(logits [..., classes])."""
    log_p = lib.nn.log_softmax(logits, axis=-1)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))


def measure(
    lib: Any, jnp: Any, step: Callable, donated: int, make: Callable[[], tuple[tuple, tuple]], **options: Any
) -> dict[str, float]:
    """Figures of a step `(*state, *batch) -> (*state, loss)`, whose state is given away.

    Arguments:
        donated: how many arguments are the state.
        make: makes state and batch, in NumPy. As in a script whose functions are decorated, the step is jitted before.
    """
    jitted = lib.jit(step, donate_argnums=tuple(range(donated)), **options)
    state, batch = lib.tree.map(jnp.asarray, make())

    def once() -> Any:
        nonlocal state
        *state, loss = jitted(*state, *batch)
        lib.block_until_ready((state, loss))
        return loss

    return figures_of(once)


def torch_module(torch: Any, params: Any, function: Callable, device: str = "cpu") -> Any:
    """`function(params, *arguments)` as a module whose parameters these are: a tree of dicts and sequences of arrays."""

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tree = tree_map(lambda a: torch.nn.Parameter(torch.tensor(a, device=device)), params)
            self.leaves = torch.nn.ParameterList(leaves(self.tree))

        def forward(self, *arguments: Any) -> Any:
            return function(self.tree, *arguments)

    return Module()


def tree_map(f: Callable, tree: Any) -> Any:
    """The same dicts and lists with `f` of each leaf: for NumPy and PyTorch, which have no such function of their own."""
    if isinstance(tree, dict):
        return {name: tree_map(f, part) for name, part in tree.items()}
    return [tree_map(f, part) for part in tree] if isinstance(tree, (list, tuple)) else f(tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Leaves of dicts and sequences, in order."""
    if not isinstance(tree, (dict, list, tuple)):
        yield tree
        return
    for part in tree.values() if isinstance(tree, dict) else tree:
        yield from leaves(part)


def torch_measure(torch: Any, loss_fn: Callable, optimiser: Any, batch: tuple) -> dict[str, float]:
    """Figures of a step of PyTorch: `loss_fn(*batch)`, its gradients, and the optimiser's update."""

    def once() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = loss_fn(*batch)
        loss.backward()
        optimiser.step()
        return loss.item()  # waits, on a GPU

    figures = figures_of(once)
    if batch[0].is_cuda:
        figures["peak memory (MB)"] = torch.cuda.max_memory_allocated() / 1e6
    return figures


def call_figures(name: str, once: Callable[[], Any]) -> dict[str, float]:
    """Figures of a function that makes one call, of something that does not train, and waits for it."""
    first = {f"{name}: first call (s)": timed(once)} | since_start()
    return first if first_only() else {f"{name} (ms)": best_of(once, 3.0) * 1e3, **first}


def figures_of(once: Callable[[], Any]) -> dict[str, float]:
    """Figures of a function that makes one step, waits for it and gives its loss."""
    first = {"first call (s)": timed(once)} | since_start()
    if first_only():
        return first
    losses = [float(once()) for _ in range(STEPS - 1)]
    return {"step (ms)": best_of(once, 3.0) * 1e3, **first, "peak memory (MB)": peak_memory(), LOSS: losses[-1]}
