"""What users read when something is wrong: the operation, the shapes, their own line, the likely fix."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, grad, jit, lax, vmap

HERE = re.escape(__file__)


def message(kind, f, *args):
    with pytest.raises(kind) as caught:
        f(*args)
    assert isinstance(caught.value, errors.AsgError)
    return str(caught.value)


def fails_with(kind, f, *parts):
    text = message(kind, f)
    for part in parts:
        assert part in text, f"{part!r} is not in:\n{text}"
    assert re.search(rf"at {HERE}:\d+ \(", text), f"no line of the user's in:\n{text}"
    return text


CASES = {
    "broadcast": (errors.ShapeError, lambda: jnp.ones(3) + jnp.ones(4), ["add", "(3,)", "(4,)"]),
    "lax dtypes": (errors.DTypeError, lambda: lax.add(jnp.ones(3), jnp.ones(3, int)), ["add", "float32", "int32", "astype"]),
    "lax shapes": (errors.ShapeError, lambda: lax.mul(jnp.ones((2, 3)), jnp.ones((3, 2))), ["mul", "(2, 3)", "(3, 2)"]),
    "float only": (errors.DTypeError, lambda: lax.sin(jnp.arange(3)), ["sin", "int32", "floating"]),
    "matmul": (errors.ShapeError, lambda: jnp.ones((2, 3)) @ jnp.ones((4, 5)), ["float32[2,3]", "float32[4,5]", "3", "4"]),
    "einsum": (errors.ShapeError, lambda: jnp.einsum("ij,jk", jnp.ones((2, 3)), jnp.ones((4, 5))), ["einsum", "'j'"]),
    "reshape": (errors.ShapeError, lambda: jnp.ones(6).reshape(4, 2), ["reshape", "6", "8"]),
    "concatenate": (errors.ShapeError, lambda: jnp.concatenate([jnp.ones((2, 3)), jnp.ones((3, 2))]), ["concatenate", "(2, 3)"]),
    "convolution": (
        errors.ShapeError,
        lambda: lax.conv(jnp.ones((1, 3, 8, 8)), jnp.ones((4, 2, 3, 3)), (1, 1), "SAME"),
        ["conv_general_dilated", "float32[1,3,8,8]", "float32[4,2,3,3]"],
    ),
    "axis": (errors.AxisError, lambda: jnp.sum(jnp.ones(3), axis=2), ["sum", "axis 2", "(3,)"]),
    "index": (errors.IndexOutOfRangeError, lambda: jnp.ones((2, 3))[0, 7], ["7", "axis 1", "3"]),
    "index under jit": (errors.IndexOutOfRangeError, lambda: jit(lambda x: x[-9])(jnp.ones(4)), ["-9", "axis 0"]),
    "too many indices": (errors.AsgError, lambda: jnp.ones(3)[0, 0], ["2", "(3,)"]),
    "grad of a vector": (errors.TransformError, lambda: grad(lambda x: x * 2)(jnp.ones(3)), ["scalar", "float32[3]", "jacrev"]),
    "grad of an integer": (errors.TransformError, lambda: grad(lambda n: n * 2.0)(3), ["argument n", "int32", "allow_int"]),
    "grad of a pair": (errors.TransformError, lambda: grad(lambda x: (x, x))(1.0), ["scalar", "tuple", "has_aux"]),
    "argnums": (ValueError, lambda: grad(lambda x: x, argnums=3)(1.0), []),
    "branch": (errors.TracerBoolConversionError, lambda: jit(lambda x: 1 if x > 0 else 2)(1.0), ["bool[]", "gt", "cond", "where", "static_argnums"]),
    "range": (errors.TracerIntegerConversionError, lambda: jit(lambda n: list(range(n)))(3), ["int32[]", "argument n", "fori_loop"]),
    "shape": (errors.ConcretizationError, lambda: jit(lambda n: jnp.zeros(n))(3), ["static"]),
    "numpy": (errors.TracerArrayConversionError, lambda: jit(lambda x: np.sin(x))(1.0), ["argument x", "asgfn.numpy", "pure_callback"]),
    "float()": (errors.ConcretizationError, lambda: jit(lambda x: float(x))(1.0), ["float()", "argument x"]),
    "boolean mask": (errors.NonConcreteBooleanIndexError, lambda: jit(lambda x: x[x > 0])(jnp.ones(3)), ["mask", "where"]),
    "static list": (errors.TransformError, lambda: jit(lambda x, n: x, static_argnums=1)(1.0, [1]), ["n = [1]", "list", "hashable", "tuple"]),
    "list": (errors.NotAnArrayError, lambda: jnp.sin([1.0]), ["sin", "list", "asarray"]),
    "None": (errors.NotAnArrayError, lambda: jnp.sin(None), ["sin", "None"]),
    "string": (errors.NotAnArrayError, lambda: grad(lambda p: p["a"])({"a": "x"}), ["p['a']", "'x'", "str"]),
    "jit argument": (errors.NotAnArrayError, lambda: jit(lambda p: p)({"w": object()}), ["p['w']", "object"]),
    "returned": (errors.NotAnArrayError, lambda: jit(lambda x: {"y": "no"})(1.0), ["returned", "['y']", "'no'"]),
    "assignment": (errors.ImmutableError, lambda: jnp.ones(3).__setitem__(0, 1.0), ["immutable", ".at["]),
    "unbound axis": (errors.UnboundAxisError, lambda: lax.psum(jnp.ones(2), "i"), ["psum", "'i'", "vmap"]),
    "key": (errors.DTypeError, lambda: asgfn.random.normal(jnp.ones(3)), ["key", "float32[3]"]),
    "vjp structure": (errors.StructureError, lambda: asgfn.vjp(lambda x: (x, x), 1.0)[1](1.0), ["cotangent", "structure"]),
    "vjp shape": (errors.ShapeError, lambda: asgfn.vjp(lambda x: x, jnp.ones(3))[1](jnp.ones(2)), ["float32[3]", "float32[2]"]),
    "jvp structure": (errors.StructureError, lambda: asgfn.jvp(lambda x: x, (1.0,), (1.0, 2.0)), ["tangents", "primals"]),
    "vmap axis": (errors.AxisError, lambda: vmap(lambda x: x, in_axes=2)(jnp.ones(3)), ["argument x", "float32[3]", "axis 2"]),
    "vmap nothing": (errors.ShapeError, lambda: vmap(lambda x: x, in_axes=None)(1.0), ["axis_size"]),
    "vmap out_axes": (errors.TransformError, lambda: vmap(lambda x: x, out_axes=None)(jnp.ones(3)), ["out_axes", "depends"]),
    "vmap in_axes": (errors.StructureError, lambda: vmap(lambda x, y: x, in_axes=(0,))(jnp.ones(3), 1.0), ["in_axes", "2"]),
    "scan lengths": (errors.ShapeError, lambda: lax.scan(lambda c, x: (c, x), 0.0, (jnp.ones(2), jnp.ones(3))), ["leading axes", "float32[2]", "float32[3]"]),
    "scan carry type": (
        errors.StructureError,
        lambda: lax.scan(lambda c, x: ({"n": c["n"].astype(int)}, x), {"n": 1.0}, jnp.ones(3)),
        ["carry['n']", "float32[] goes in", "int32[] comes out"],
    ),
    "scan carry structure": (errors.StructureError, lambda: lax.scan(lambda c, x: ((c, c), x), 1.0, jnp.ones(3)), ["carry", "in:", "out:"]),
    "while condition": (errors.ShapeError, lambda: lax.while_loop(lambda c: c > 0, lambda c: c, jnp.ones(2)), ["boolean scalar", "bool[2]", "any"]),
    "cond structure": (errors.StructureError, lambda: lax.cond(True, lambda x: x, lambda x: (x, x), 1.0), ["true_fun", "false_fun"]),
    "cond types": (errors.StructureError, lambda: lax.cond(True, lambda x: x, lambda x: jnp.ones(2), 1.0), ["float32[2]", "float32[]", "output"]),
    "cond predicate": (errors.ShapeError, lambda: lax.cond(jnp.ones(2) > 0, lambda: 1, lambda: 2), ["bool[2]", "where"]),
    "unbounded while": (
        errors.TransformError,
        lambda: grad(lambda x: lax.while_loop(lambda c: c < 10, lambda c: c * x, 1.5))(2.0),
        ["while_loop", "max_steps", "scan"],
    ),
    "custom_vjp forward": (errors.TransformError, lambda: asgfn.jvp(_straight_through, (1.0,), (1.0,)), ["custom_vjp", "custom_jvp"]),
    "custom_vjp result": (errors.StructureError, lambda: grad(_bad_bwd)(1.0), ["bwd", "_bad_bwd", "tuple"]),
    "callback derivative": (
        errors.TransformError,
        lambda: grad(lambda x: asgfn.pure_callback(np.sin, asgfn.ShapeDtypeStruct((), jnp.float32), x))(1.0),
        ["pure_callback", "custom_jvp"],
    ),
    "callback result": (
        errors.CallbackError,
        lambda: asgfn.pure_callback(lambda x: np.ones(3), asgfn.ShapeDtypeStruct((), jnp.float32), 1.0),
        ["promised float32[]", "[3]"],
    ),
}  # fmt: skip


@asgfn.custom_vjp
def _straight_through(x):
    return jnp.round(x)


_straight_through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


@asgfn.custom_vjp
def _bad_bwd(x):
    return x


_bad_bwd.defvjp(lambda x: (x, None), lambda _, g: (g, g))


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    kind, f, parts = CASES[name]
    if not issubclass(kind, errors.AsgError):
        with pytest.raises(kind):
            f()
        return
    fails_with(kind, f, *parts)


def test_operands_say_where_they_were_made():
    @jit
    def model(params, x):
        hidden = jnp.tanh(x @ params["first"])
        return hidden @ params["second"]

    text = message(errors.ShapeError, model, {"first": jnp.ones((3, 4)), "second": jnp.ones((5, 2))}, jnp.ones((2, 3)))
    assert re.search(rf"made by tanh at {HERE}:\d+ \(model\)", text)
    assert "argument params['second'] of model" in text


def test_errors_in_derivatives_name_the_forward_line():
    @asgfn.custom_jvp
    def f(x):
        return x * 2

    f.defjvp(lambda primals, tangents: (f(*primals), jnp.ones(3)))
    text = message(errors.TransformError, grad(lambda x: f(x) * 1.0), 1.0)
    assert "jvp rule of f" in text and "float32[3]" in text and __file__ in text


def test_vmap_sizes_as_a_table():
    text = message(errors.ShapeError, vmap(lambda p, y: p["a"] + y), {"a": jnp.ones((3, 2))}, jnp.ones((4, 2)))
    assert re.search(r"p\['a'\]\s+float32\[3,2\]\s+axis 0 has length 3", text)
    assert re.search(r"y\s+float32\[4,2\]\s+axis 0 has length 4", text)


def test_leaked_tracer():
    kept = []

    @jit
    def f(x):
        kept.append(x * 2)
        return x

    f(1.0)
    text = fails_with(errors.UnexpectedTracerError, lambda: kept[0] + 1, "leaked", "add", "made by mul")
    assert "f" in text
    with pytest.raises(errors.UnexpectedTracerError):
        bool(kept[0])


def test_builtin_types_catch_them_too():
    for kind, f in (
        (TypeError, lambda: jnp.ones(3) + jnp.ones(4)),
        (ValueError, lambda: jnp.ones(3) + jnp.ones(4)),
        (IndexError, lambda: jnp.ones(3)[9]),
        (TypeError, lambda: grad(lambda x: x)(1)),
        (NameError, lambda: lax.psum(jnp.ones(1), "nowhere")),
    ):
        with pytest.raises(kind):
            f()


@pytest.mark.parametrize("wrap", [lambda f: f, jit, lambda f: jit(asgfn.fuse(f)) if hasattr(asgfn, "fuse") else f])
def test_nan_hunt_forward(wrap):
    with asgfn.debug_nans():
        text = message(errors.NonFiniteError, wrap(lambda x: jnp.exp(jnp.log(x) * 2)), -1.0)
    assert "nan" in text and "in log" in text and __file__ in text


def test_nan_hunt_backward():
    with asgfn.debug_nans():
        text = message(errors.NonFiniteError, jit(grad(lambda x: jnp.sqrt(x) * 0.0)), 0.0)
    assert __file__ in text


def test_inf_hunt():
    with asgfn.debug_infs():
        text = message(errors.NonFiniteError, jit(lambda x: 1 / x), 0.0)
    assert "infinity" in text and "div" in text


def test_deleted_arrays():
    x = jnp.ones(3)
    jit(lambda x: x + 1, donate_argnums=0)(x)
    with pytest.raises(errors.DeletedArrayError, match="donated"):
        x + 1


def test_traceback_shows_only_the_user(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import asgfn, asgfn.numpy as jnp

        @asgfn.jit
        def model(w, x):
            return x @ w

        def main():
            print(asgfn.grad(lambda w: model(w, jnp.ones(3)).sum())(jnp.ones(4)))

        main()
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    frames = re.findall(r'File "([^"]+)", line', done.stderr)
    assert frames and set(frames) == {str(script)}, done.stderr
    assert "return x @ w" in done.stderr


def test_missing_backend():
    text = message(errors.BackendError, lambda: jit(lambda x: x, backend="abacus")(1.0))
    assert "'abacus'" in text and "numpy" in text
