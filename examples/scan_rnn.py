"""A recurrent network learns to remember: the adding problem, with a GRU written as one cell and `scan`.

    python -m examples.scan_rnn

Each step shows the network a random number and a mark. Two steps of the sequence are marked, and at the end the network
must say the sum of their two numbers (S. Hochreiter, J. Schmidhuber, Long short-term memory, 1997, section 5.4). Always
answering 1 has a mean squared error of 1/6; to do better, a number must be kept unharmed past many others. The data are
drawn inside the compiled step, from the step's key: every batch is new, so that the training loss is an honest one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import lax, plot, random
from examples import pictures
from nn_fn import functional as F

GUESS = 1 / 6  # the variance of the sum of two uniform numbers


def adding_problem(key: Any, batch: int, length: int) -> tuple[Any, Any]:
    """Sequences [batch, length, 2] of (number, mark), and the sums of their marked numbers [batch]."""
    number_key, first_key, second_key = random.split(key, 3)
    numbers = random.uniform(number_key, (batch, length))
    half = length // 2  # one mark lies in either half
    first = random.randint(first_key, (batch,), 0, half)
    second = random.randint(second_key, (batch,), half, length)
    marks = asgfn.nn.one_hot(first, length) + asgfn.nn.one_hot(second, length)
    return jnp.stack([numbers, marks], axis=-1), jnp.sum(numbers * marks, axis=1)


def init_gru(key: Any, inputs: int, hidden: int) -> dict[str, Any]:
    """Weights of the three parts (keep, reset, candidate) side by side, and of the answer read from the end state."""
    input_key, state_key, out_key = random.split(key, 3)
    recurrent = [random.orthogonal(k, hidden) for k in random.split(state_key, 3)]
    return {
        "input": random.normal(input_key, (inputs, 3 * hidden)) / np.sqrt(inputs),
        "recurrent": jnp.concatenate(recurrent, axis=1),
        "bias": jnp.zeros(3 * hidden).at[:hidden].set(1.0),  # at first the cell mostly keeps what it has
        "out": random.normal(out_key, (hidden,)) / np.sqrt(hidden),
        "out_bias": jnp.ones(()),
    }


def cell(params: dict, state: Any, x: Any) -> Any:
    """One step of a gated recurrent unit: state [batch, hidden] and x [batch, inputs] to the new state.

    Source: K. Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, in the form where the reset
    gate acts on the product (one matrix product for all three parts).
    """
    from_input = x @ params["input"] + params["bias"]
    from_state = state @ params["recurrent"]
    keep_in, reset_in, candidate_in = jnp.split(from_input, 3, axis=-1)
    keep_state, reset_state, candidate_state = jnp.split(from_state, 3, axis=-1)
    keep = asgfn.nn.sigmoid(keep_in + keep_state)
    reset = asgfn.nn.sigmoid(reset_in + reset_state)
    candidate = jnp.tanh(candidate_in + reset * candidate_state)
    return keep * state + (1 - keep) * candidate


def predict(params: dict, sequences: Any) -> Any:
    """The answers [batch] to sequences [batch, length, 2]."""
    start = jnp.zeros((len(sequences), len(params["out"])))
    last, _ = lax.scan(lambda state, x: (cell(params, state, x), None), start, jnp.moveaxis(sequences, 1, 0))
    return last @ params["out"] + params["out_bias"]


def loss_fn(params: dict, sequences: Any, sums: Any) -> Any:
    return F.mse_loss(predict(params, sequences), sums)


def clip_by_norm(limit: float) -> nn_fn.GradientTransformation:
    """Scales gradients down whose norm, over all parameters, is above the limit."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in asgfn.tree.leaves(grads)))
        return asgfn.tree.map(lambda g: g * jnp.minimum(1, limit / norm), grads), state

    return nn_fn.GradientTransformation(lambda params: (), update)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns the mean squared error on new sequences, and the share answered to 0.05."""
    parser = argparse.ArgumentParser(description="Train a GRU on the adding problem.")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/scan_rnn"), help="folder for the picture")
    options = parser.parse_args(argv)
    init_key, data_key, test_key = random.split(random.key(options.seed), 3)

    params = init_gru(init_key, 2, options.hidden)
    optimiser = nn_fn.chain(clip_by_norm(1.0), nn_fn.adam(lambda count: 1e-2 / (1 + count / 200)))
    state = optimiser.init(params)

    @asgfn.jit(donate_argnums=(0, 1))
    def step(params, state, count):
        batch = adding_problem(random.fold_in(data_key, count), options.batch_size, options.length)
        loss, grads = asgfn.value_and_grad(loss_fn)(params, *batch)
        updates, state = optimiser.update(grads, state, params)
        return nn_fn.apply_updates(params, updates), state, loss

    history = []
    started = time.perf_counter()
    for count in range(1, options.steps + 1):
        params, state, loss = step(params, state, count)
        history.append(float(loss))
        if count % 100 == 0 or count == options.steps:
            print(f"step {count:4d}: error {np.mean(history[-50:]):.4f}   ({time.perf_counter() - started:.1f} s)")

    sequences, sums = adding_problem(test_key, 500, options.length)
    answers = asgfn.jit(predict)(params, sequences)
    error = float(F.mse_loss(answers, sums))
    close = float(jnp.mean(jnp.abs(answers - sums) < 0.05))
    print(f"mean squared error on new sequences: {error:.5f} (guessing: {GUESS:.5f}); {close:.0%} are right to 0.05")

    figure, (left, right) = pictures.panels(2)
    always = (np.array([0.0, len(history)]), np.full(2, GUESS))
    plot.losses(
        {"GRU": history, "always answering 1": always}, ax=left, smoothing=0.9, log=True, title="The adding problem"
    )
    right.plot([0, 2], [0, 2], color=pictures.EDGE, linewidth=1)
    right.plot(sums, answers, "o", color=pictures.BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0)
    right.set_aspect("equal")
    pictures.style(right, "500 new sequences", "sum", "the network's answer")
    pictures.save(figure, options.out, "adding.png")
    return {"error": error, "close": close}


if __name__ == "__main__":
    main()
