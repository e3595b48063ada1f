"""Rules of your own: four functions that know more about themselves than their code says.

    python -m examples.custom_rules

1. `custom_jvp`: log(1 + exp(x)) with a derivative that does not overflow.
2. `custom_vjp`: an identity that clips gradients on their way back, in a recurrence where they explode.
3. `custom_vjp`: the solution of an equation, differentiated by the implicit function theorem instead of through the
   iterations that found it. The equation is Kepler's, whose derivatives are known exactly.
4. `custom_vmap`: a linear solve that, mapped over right-hand sides, factorises its matrix once and not once for each.
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
from asgfn import lax, random
from asgfn.custom_batching import custom_vmap
from examples import pictures

# ------------------------------------------------------------------------------------------ 1. a stable derivative


def naive_softplus(x: Any) -> Any:
    """log(1 + exp(x)): exp overflows for large x, and the chain rule then multiplies inf by 0."""
    return jnp.log(1 + jnp.exp(x))


@asgfn.custom_jvp
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), whose derivative is the logistic function."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _softplus_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    (x,), (dx,) = primals, tangents
    return softplus(x), asgfn.nn.sigmoid(x) * dx


def stable_derivative() -> dict[str, float]:
    points = np.array([-100.0, -1.0, 0.0, 1.0, 100.0], np.float32)
    exact = 1 / (1 + np.exp(-points.astype(np.float64)))
    naive = np.asarray(asgfn.vmap(asgfn.grad(naive_softplus))(points))
    stable = np.asarray(asgfn.vmap(asgfn.grad(softplus))(points))
    second = np.asarray(asgfn.vmap(asgfn.grad(asgfn.grad(softplus)))(points))
    print("1. the derivative of log(1 + exp(x))")
    print("        x     naive    custom     exact    custom second derivative")
    for row in zip(points, naive, stable, exact, second, strict=True):
        print("   {:6.0f} {:9.5f} {:9.5f} {:9.5f} {:9.5f}".format(*row))
    return {
        "softplus error": float(np.abs(stable - exact).max()),
        "softplus second error": float(np.abs(second - exact * (1 - exact)).max()),
        "naive nans": int(np.isnan(naive).sum()),
    }


# ----------------------------------------------------------------------------------------- 2. clipping in mid-flight


@partial(asgfn.custom_vjp, nondiff_argnums=(1,))
def clip_gradient(x: Any, limit: float) -> Any:
    """x itself; a gradient that flows back through it is clipped to ±limit."""
    return x


def _clip_forward(x: Any, limit: float) -> tuple[Any, None]:
    return x, None


def _clip_backward(limit: float, residual: None, cotangent: Any) -> tuple[Any]:
    return (jnp.clip(cotangent, -limit, limit),)


clip_gradient.defvjp(_clip_forward, _clip_backward)


def logistic_map(x: Any, steps: int, limit: float | None) -> Any:
    """x -> 3.9 x (1 - x), again and again. It is chaotic: what a small change grows to doubles every 1.4 steps."""

    def step(x: Any, _: None) -> tuple[Any, None]:
        x = x if limit is None else clip_gradient(x, limit)
        return 3.9 * x * (1 - x), None

    return lax.scan(step, x, length=steps)[0]


def clipped_recurrence() -> dict[str, float]:
    starts = np.linspace(0.1, 0.9, 41, dtype=np.float32)

    def largest_gradient(limit: float | None) -> float:
        gradients = asgfn.vmap(asgfn.grad(lambda x: logistic_map(x, 60, limit)))(starts)
        return float(jnp.max(jnp.abs(gradients)))

    def value(limit: float | None) -> Any:
        return asgfn.vmap(lambda x: logistic_map(x, 60, limit))(starts)

    plain, clipped = largest_gradient(None), largest_gradient(1.0)
    same = bool(jnp.all(value(None) == value(1.0)))
    print("2. gradients through 60 steps of a chaotic recurrence")
    print(f"   largest |gradient|: {plain:.1e} without clipping, {clipped:.1f} with; same values: {same}")
    return {"plain gradient": plain, "clipped gradient": clipped, "same values": same}


# ----------------------------------------------------------------------------------------- 3. implicit differentiation


def iterate(update: Callable, start: Any) -> Any:
    """The x with update(x) = x, by iteration. A loop of unknown length: it has no reverse mode of its own."""

    def unfinished(state: tuple) -> Any:
        previous, x, count = state
        return (jnp.max(jnp.abs(x - previous)) > 1e-14) & (count < 1000)

    def step(state: tuple) -> tuple:
        _, x, count = state
        return x, update(x), count + 1

    return lax.while_loop(unfinished, step, (start, update(start), 0))[1]


@partial(asgfn.custom_vjp, nondiff_argnums=(0,))
def fixed_point(f: Callable, params: Any, start: Any) -> Any:
    """The solution x of x = f(params, x), for a contraction f."""
    return iterate(partial(f, params), start)


def _fixed_point_forward(f: Callable, params: Any, start: Any) -> tuple[Any, Any]:
    solution = fixed_point(f, params, start)
    return solution, (params, solution)  # nothing of the way to the solution is kept


def _fixed_point_backward(f: Callable, residuals: Any, cotangent: Any) -> tuple[Any, Any]:
    params, solution = residuals
    # x = f(p, x) gives dx = f_p dp + f_x dx, so that the gradient is u f_p where u = cotangent + u f_x
    _, pull_x = asgfn.vjp(partial(f, params), solution)
    u = iterate(lambda u: cotangent + pull_x(u)[0], cotangent)
    _, pull_params = asgfn.vjp(lambda p: f(p, solution), params)
    return pull_params(u)[0], jnp.zeros_like(solution)


fixed_point.defvjp(_fixed_point_forward, _fixed_point_backward)


def kepler(orbit: tuple, anomaly: Any) -> Any:
    """E = M + e sin E: where a planet is (E) at a time (M), on an orbit of eccentricity e."""
    eccentricity, mean_anomaly = orbit
    return mean_anomaly + eccentricity * jnp.sin(anomaly)


def position(eccentricity: Any, mean_anomaly: Any) -> Any:
    """The eccentric anomaly E, in radians."""
    return fixed_point(kepler, (eccentricity, mean_anomaly), mean_anomaly)


def implicit_derivative(out: Path) -> dict[str, float]:
    with asgfn.enable_x64():
        times = np.linspace(0.05, 2 * np.pi - 0.05, 200)
        solve = asgfn.jit(asgfn.vmap(asgfn.value_and_grad(position, argnums=(0, 1)), in_axes=(None, 0)))
        worst = 0.0
        figure, (left, right) = pictures.panels(2)
        for e, colour in zip((0.1, 0.5, 0.8), (pictures.BLUE, pictures.RED, pictures.GREEN), strict=True):
            anomaly, (by_e, by_time) = (asgfn.tree.map(np.asarray, x) for x in solve(e, times))
            slope = 1 / (1 - e * np.cos(anomaly))
            worst = max(
                worst, float(np.abs(by_time - slope).max()), float(np.abs(by_e - np.sin(anomaly) * slope).max())
            )
            left.plot(times, anomaly, color=colour, linewidth=1.8, label=f"eccentricity {e}")
            right.plot(times, by_time, color=colour, linewidth=1.8)
            right.plot(times, by_e, color=colour, linewidth=1.4, linestyle="--")
        pictures.style(
            left, "Kepler's equation: where a planet is", "mean anomaly (time) / rad", "eccentric anomaly / rad"
        )
        right.plot([], [], color=pictures.INK, linewidth=1.8, label="by time")
        right.plot([], [], color=pictures.INK, linewidth=1.4, linestyle="--", label="by eccentricity")
        pictures.style(right, "Derivatives, by implicit differentiation", "mean anomaly (time) / rad", "derivative")
    print("3. derivatives of the solution of Kepler's equation, for three orbits at 200 times")
    print(f"   largest difference from the exact formulas: {worst:.1e}")
    pictures.save(figure, out, "kepler.png")
    return {"kepler error": worst}


# --------------------------------------------------------------------------------------------- 4. a batching rule


@custom_vmap
def solve(matrix: Any, rhs: Any) -> Any:
    """matrix⁻¹ rhs, for one right-hand side [n]."""
    return jnp.linalg.solve(matrix, rhs)


@solve.def_vmap
def _solve_batched(size: int, in_batched: list, matrix: Any, rhs: Any) -> tuple[Any, bool]:
    matrix_batched, rhs_batched = in_batched
    if not matrix_batched:  # the right-hand sides are the columns of one system: one factorisation
        return jnp.linalg.solve(matrix, rhs.T).T, True
    rhs = rhs if rhs_batched else jnp.broadcast_to(rhs, (size, *rhs.shape))
    return jnp.linalg.solve(matrix, rhs[..., None])[..., 0], True


def solve_one_by_one(matrix: Any, rhs: Any) -> Any:
    """What a mapped solve costs without the rule: every right-hand side brings its own copy of the matrix."""
    copies = jnp.broadcast_to(matrix, (len(rhs), *matrix.shape))
    return jnp.linalg.solve(copies, rhs[..., None])[..., 0]


def batching_rule(size: int, seed: int) -> dict[str, float]:
    matrix_key, rhs_key = random.split(random.key(seed))
    matrix = random.normal(matrix_key, (size, size)) + size * jnp.eye(size)
    rhs = random.normal(rhs_key, (2 * size, size))

    def timed(function: Callable) -> tuple[Any, float]:
        compiled = asgfn.jit(function)
        compiled(matrix, rhs)  # compiles
        started = time.perf_counter()
        result = asgfn.block_until_ready(compiled(matrix, rhs))
        return result, time.perf_counter() - started

    one_by_one, slow = timed(solve_one_by_one)
    together, fast = timed(asgfn.vmap(solve, in_axes=(None, 0)))
    difference = float(jnp.max(jnp.abs(one_by_one - together)))
    each = jnp.stack([jnp.linalg.solve(m, r) for m, r in zip((matrix, 2 * matrix), rhs[:2], strict=True)])
    both = asgfn.vmap(solve)(jnp.stack([matrix, 2 * matrix]), rhs[:2])
    print(f"4. a {size} x {size} system with {2 * size} right-hand sides")
    print(f"   {slow * 1e3:.1f} ms one by one, {fast * 1e3:.1f} ms by the rule; they differ by {difference:.0e}")
    return {"solve difference": max(difference, float(jnp.max(jnp.abs(each - both)))), "speedup": slow / fast}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Runs the example; returns the errors and comparisons that it prints."""
    parser = argparse.ArgumentParser(description="custom_jvp, custom_vjp and custom_vmap at work.")
    parser.add_argument("--size", type=int, default=64, help="size of the linear system of part 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/custom_rules"), help="folder for the picture")
    options = parser.parse_args(argv)
    return {
        **stable_derivative(),
        **clipped_recurrence(),
        **implicit_derivative(options.out),
        **batching_rule(options.size, options.seed),
    }


if __name__ == "__main__":
    main()
