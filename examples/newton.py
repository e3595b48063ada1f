"""Newton's method without a Hessian: logistic regression on two kinds of handwritten digits, to the last decimal.

    python -m examples.newton

The product of a Hessian with a vector is the directional derivative of the gradient: `jvp` of `grad`, at the price of a
few evaluations of the function and without ever forming the matrix. Conjugate gradients need nothing else to solve for
Newton's step (J. Nocedal, S. Wright, Numerical Optimization, 2006, algorithm 7.1). Near the solution each step doubles
the number of correct digits, where gradient descent gains the same small factor every time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, plot
from examples import pictures
from nn_fn.data import load_digits


def two_digits(split: str, negative: int, positive: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of two digits with a constant feature [n, 65], and their signs -1 and +1 [n], float64."""
    images, labels = load_digits(split, flatten=True)
    chosen = (labels == negative) | (labels == positive)
    x = np.concatenate([images[chosen], np.ones((chosen.sum(), 1))], axis=1)
    return x.astype(np.float64), np.where(labels[chosen] == positive, 1.0, -1.0)


def objective(w: Any, x: Any, signs: Any, ridge: float = 1e-3) -> Any:
    """Mean logistic loss log(1 + exp(-sign * score)) and a small ridge, so that the minimum is unique."""
    return jnp.mean(asgfn.nn.softplus(-signs * (x @ w))) + 0.5 * ridge * (w @ w)


def hvp(f: Callable, w: Any, v: Any) -> Any:
    """The Hessian of f at w times v: forward mode over reverse mode."""
    return asgfn.jvp(asgfn.grad(f), (w,), (v,))[1]


def conjugate_gradients(product: Callable, b: Any, tolerance: Any, most: int) -> tuple[Any, Any]:
    """Solves A x = b for a positive definite A given as ``product(v) = A v``, until |b - A x| <= tolerance * |b|.

    Returns:
        x, and how many products it took.
    """
    goal = (tolerance * jnp.linalg.norm(b)) ** 2

    def unfinished(state: tuple) -> Any:
        _, _, _, squared, count = state
        return (squared > goal) & (count < most)

    def step(state: tuple) -> tuple:
        x, residual, direction, squared, count = state
        image = product(direction)
        length = squared / (direction @ image)
        residual = residual - length * image
        new_squared = residual @ residual
        return x + length * direction, residual, residual + new_squared / squared * direction, new_squared, count + 1

    x, *_, count = lax.while_loop(unfinished, step, (jnp.zeros_like(b), b, b, b @ b, 0))
    return x, count


@asgfn.jit
def newton_step(w: Any, x: Any, signs: Any) -> tuple[Any, Any]:
    """One step; returns the new w, and how many gradients and Hessian-vector products it took."""
    f = partial(objective, x=x, signs=signs)
    value, gradient = asgfn.value_and_grad(f)(w)
    # far from the minimum a rough direction will do; asking for |g|² there makes the convergence quadratic
    tolerance = jnp.minimum(0.1, jnp.linalg.norm(gradient))
    direction, products = conjugate_gradients(partial(hvp, f, w), -gradient, tolerance, most=2 * w.size)
    slope = gradient @ direction
    length = lax.while_loop(
        lambda t: (f(w + t * direction) > value + 1e-4 * t * slope) & (t > 1e-6), lambda t: t / 2, jnp.ones_like(value)
    )
    return w + length * direction, products + 1


@partial(asgfn.jit, static_argnums=3)
def gradient_descent(w: Any, x: Any, signs: Any, steps: int) -> tuple[Any, Any]:
    """Returns the last w and the gradient's norm before every step."""
    f = partial(objective, x=x, signs=signs)
    # the curvature of the logistic loss is greatest at w = 0: its largest eigenvalue, by power iteration, bounds it
    product = partial(hvp, f, jnp.zeros_like(w))

    def iterate(_: Any, v: Any) -> Any:
        image = product(v)
        return image / jnp.linalg.norm(image)

    v = lax.fori_loop(0, 50, iterate, jnp.ones_like(w))
    rate = 1 / (v @ product(v))

    def step(w: Any, _: None) -> tuple[Any, Any]:
        gradient = asgfn.grad(f)(w)
        return w - rate * gradient, jnp.linalg.norm(gradient)

    return lax.scan(step, w, length=steps)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs the example; returns the norms of the gradient by either method, and the test accuracy."""
    parser = argparse.ArgumentParser(description="Newton's method with conjugate gradients on logistic regression.")
    parser.add_argument("--digits", type=int, nargs=2, default=(3, 8), help="which two digits to tell apart")
    parser.add_argument("--descent-steps", type=int, default=2000, help="steps of plain gradient descent")
    parser.add_argument("--out", type=Path, default=Path("runs/newton"), help="folder for the picture")
    options = parser.parse_args(argv)

    with asgfn.enable_x64():  # the point is the last decimals
        x, signs = (jnp.asarray(a) for a in two_digits("train", *options.digits))
        test_x, test_signs = two_digits("test", *options.digits)
        gradient_norm = asgfn.jit(lambda w: jnp.linalg.norm(asgfn.grad(objective)(w, x, signs)))

        print(f"{len(x)} images of {options.digits[0]} and {options.digits[1]}, {x.shape[1]} weights")
        print("step   gradient norm   gradients and Hessian-vector products")
        w = jnp.zeros(x.shape[1])
        norms, work = [float(gradient_norm(w))], [0]
        started = time.perf_counter()
        while norms[-1] > 1e-13 and len(norms) <= 30:
            w, used = newton_step(w, x, signs)
            norms.append(float(gradient_norm(w)))
            work.append(work[-1] + int(used))
            print(f"{len(norms) - 1:4d}   {norms[-1]:13.3e}   {work[-1]:5d}")
        newton_seconds = time.perf_counter() - started

        started = time.perf_counter()
        slow, descent = gradient_descent(jnp.zeros_like(w), x, signs, options.descent_steps)
        descent = np.asarray(descent)
        print(f"Newton: {norms[-1]:.1e} after {newton_seconds:.2f} s")
        print(
            f"gradient descent: {descent[-1]:.1e} after {len(descent)} steps and {time.perf_counter() - started:.2f} s"
        )
        excess = float(objective(slow, x, signs) - objective(w, x, signs))
        accuracy = float(np.mean(np.sign(test_x @ np.asarray(w)) == test_signs))
        print(f"gradient descent is still {excess:.1e} above the minimum; test accuracy {accuracy:.4f}")

    figure, (left, right) = pictures.panels(2)
    curves = {
        "Newton, conjugate gradients": (np.array(work) + 1, norms),
        "gradient descent": (np.arange(1, len(descent) + 1), descent),
    }
    plot.losses(
        curves, ax=left, log=True, xlabel="gradients and Hessian-vector products", ylabel="gradient norm", title="Work"
    )
    left.set_xscale("log")
    plot.losses(norms, ax=right, log=True, xlabel="Newton step", ylabel="gradient norm", title="Quadratic convergence")
    right.lines[0].set_marker("o")
    pictures.save(figure, options.out, "convergence.png")
    return {"norms": norms, "descent": descent.tolist(), "excess": excess, "accuracy": accuracy}


if __name__ == "__main__":
    main()
