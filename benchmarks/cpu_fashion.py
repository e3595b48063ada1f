"""The example `fashion_mnist` from start to end on the CPU, beside the same model and loop in JAX and in PyTorch.

Everybody gets the same batches from the same loader, and initial weights of the same distribution; evaluates after each
epoch; saves its state every 200 steps; reads losses every 50. Importing the library and compiling are part of the time. Only
ours logs to files and draws a picture. ASGFN_BENCH_EPOCHS and ASGFN_BENCH_LIMIT (of images) make it shorter.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.timing import peak_memory
from benchmarks.training import cross_entropy

EPOCHS = int(os.environ.get("ASGFN_BENCH_EPOCHS", "3"))
LIMIT = int(os.environ["ASGFN_BENCH_LIMIT"]) if "ASGFN_BENCH_LIMIT" in os.environ else None
BATCH, TEST_BATCH, PEAK, DROP = 64, 250, 3e-3, 0.3
LOG_EVERY, SAVE_EVERY = 50, 200
ACCURACY = "test accuracy"


def run(train: Callable[[Path], float]) -> dict[str, float]:
    """Figures of `train(folder)`, which imports its library, does all the work and gives the accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        accuracy = train(Path(folder))
        return {
            "wall time (s)": time.perf_counter() - started,
            ACCURACY: accuracy,
            "peak memory (MB)": peak_memory(),
        }


def ours(folder: Path) -> float:
    from examples.fashion_mnist import main

    arguments = ["--epochs", EPOCHS, "--out", folder, "--backend", libraries.cpu_backend(), "--batch-size", BATCH]
    return main([str(a) for a in arguments + (["--limit", LIMIT] if LIMIT else [])])


def loop(
    batches: Any,
    rates: np.ndarray,
    step: Callable[[int, Any, Any], Any],
    evaluate: Callable[[], float],
    save: Callable[[Path], None],
    folder: Path,
) -> float:
    """What `nn_fn.fit` does, for a peer: `step(number, x, y)` gives a loss, which is read later."""
    count, pending, accuracy = 0, [], 0.0
    for _ in range(EPOCHS):
        for x, y in batches:
            pending.append(step(count, x, y))
            count += 1
            if count % LOG_EVERY == 0:
                assert np.isfinite(np.mean([float(loss) for loss in pending]))
                pending = []
            if count % SAVE_EVERY == 0:
                save(folder / f"{count}")
        accuracy = evaluate()
        save(folder / f"{count}")
    assert count == len(rates)
    return accuracy


def data() -> tuple[Any, Any]:
    """The loaders of the example: batches to train on and to test with."""
    from nn_fn.data import ArrayDataset, DataLoader, load_fashion_mnist

    train, test = (
        ArrayDataset(*(a[:LIMIT] for a in load_fashion_mnist(split, channel_axis=1))) for split in ("train", "test")
    )
    return DataLoader(train, BATCH, shuffle=True, drop_last=True, seed=0), DataLoader(test, TEST_BATCH)


def one_cycle(steps: int) -> np.ndarray:
    """The rate of each step: up to PEAK and down on half cosines, as `cosine_onecycle_schedule`."""
    top = int(0.3 * steps)
    half = lambda n: (1 - np.cos(np.pi * np.arange(n) / n)) / 2
    start, end = PEAK / 25, PEAK / 25 / 1e4
    up, down = start + (PEAK - start) * half(top), PEAK + (end - PEAK) * half(steps - top)
    return np.concatenate([up, down]).astype(np.float32)


def torch(folder: Path) -> float:
    torch = libraries.torch()
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 5 * 5, 128), nn.ReLU(), nn.Dropout(DROP), nn.Linear(128, 10),
    )  # fmt: skip
    batches, tests = data()
    rates = one_cycle(EPOCHS * len(batches))
    optimiser = torch.optim.Adam(model.parameters(), fused=True)

    def step(count: int, x: np.ndarray, y: np.ndarray) -> Any:
        optimiser.param_groups[0]["lr"] = float(rates[count])
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y).long())
        loss.backward()
        optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def evaluate() -> float:
        model.eval()
        found = [_score(model(torch.from_numpy(x)).numpy(), y) for x, y in tests]
        model.train()
        return _accuracy(found)

    def save(path: Path) -> None:
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict()}, path)

    return loop(batches, rates, step, evaluate, save, folder)


def jax(folder: Path) -> float:
    jax, jnp, lax = libraries.jax()
    rng = np.random.default_rng(0)

    def uniform(fan_in: int, *shape: int) -> np.ndarray:
        return rng.uniform(-1 / np.sqrt(fan_in), 1 / np.sqrt(fan_in), shape).astype(np.float32)

    def block(p: Any, averages: Any, x: Any, train: bool) -> tuple[Any, Any]:
        y = lax.conv_general_dilated(x, p["weight"], (1, 1), "VALID")
        mean, variance = averages
        if train:
            count = y.size // y.shape[1]
            mean, variance = jnp.mean(y, (0, 2, 3)), jnp.var(y, (0, 2, 3))
            fresh = (mean, variance * (count / (count - 1)))
            averages = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, averages, fresh)
        factor = lax.rsqrt(variance + 1e-5) * p["scale"]
        y = jax.nn.relu((y - mean[:, None, None]) * factor[:, None, None] + p["shift"][:, None, None])
        return lax.reduce_window(y, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"), averages

    def model(params: Any, averages: Any, x: Any, key: Any = None) -> tuple[Any, Any]:
        after = []
        for p, average in zip(params["blocks"], averages, strict=True):
            x, average = block(p, average, x, key is not None)
            after.append(average)
        (w1, b1), (w2, b2) = params["linear"]
        h = jax.nn.relu(x.reshape(len(x), -1) @ w1 + b1)
        if key is not None:
            h = jnp.where(jax.random.bernoulli(key, 1 - DROP, h.shape), h / (1 - DROP), 0)
        return h @ w2 + b2, after

    def loss_fn(params: Any, averages: Any, x: Any, y: Any, key: Any) -> tuple[Any, Any]:
        logits, averages = model(params, averages, x, key)
        return cross_entropy(jax, jnp, logits, y), averages

    def update(params: Any, averages: Any, m: Any, v: Any, count: Any, x: Any, y: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(0), count)
        (loss, averages), g = jax.value_and_grad(loss_fn, has_aux=True)(params, averages, x, y, key)
        rate = rates[count]
        t = (count + 1).astype(jnp.float32)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        params = jax.tree.map(lambda p, m, v: p - rate * (m * c1) / (jnp.sqrt(v) * c2 + 1e-8), params, m, v)
        return (params, averages, m, v, count + 1), loss

    def conv(fan_in: int, fan_out: int) -> dict[str, np.ndarray]:
        ones, zeros = np.ones(fan_out, np.float32), np.zeros(fan_out, np.float32)
        return {"weight": uniform(9 * fan_in, fan_out, fan_in, 3, 3), "scale": ones, "shift": zeros}

    linear = lambda fan_in, fan_out: (uniform(fan_in, fan_in, fan_out), uniform(fan_in, fan_out))
    params = {"blocks": [conv(1, 32), conv(32, 64)], "linear": [linear(64 * 5 * 5, 128), linear(128, 10)]}
    zeros = lambda: jax.tree.map(np.zeros_like, params)
    averages = [(np.zeros(n, np.float32), np.ones(n, np.float32)) for n in (32, 64)]
    batches, tests = data()
    rates_host = one_cycle(EPOCHS * len(batches))
    rates = jnp.asarray(rates_host)
    state = jax.tree.map(jnp.asarray, (params, averages, zeros(), zeros(), np.int32(0)))
    jitted = jax.jit(update, donate_argnums=range(5))
    predict = jax.jit(lambda params, averages, x: model(params, averages, x)[0])

    def step(count: int, x: np.ndarray, y: np.ndarray) -> Any:
        nonlocal state
        state, loss = jitted(*state, x, y)
        return loss

    def evaluate() -> float:
        return _accuracy([_score(np.asarray(predict(*state[:2], x)), y) for x, y in tests])

    def save(path: Path) -> None:
        np.savez(path, *map(np.asarray, jax.tree.leaves(state)))

    return loop(batches, rates_host, step, evaluate, save, folder)


def _score(logits: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """How many are right, of how many."""
    return int(np.sum(np.argmax(logits, 1) == labels)), len(labels)


def _accuracy(scores: Iterable[tuple[int, int]]) -> float:
    right, all_ = map(sum, zip(*scores, strict=True))
    return right / all_


AGREE = {ACCURACY: 0.02}  # dropout draws other numbers
VARIANTS = {"asgfn": lambda: run(ours), "jax": lambda: run(jax), "torch": lambda: run(torch)}
