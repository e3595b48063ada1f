"""Random programs: what compilers are compared on.

`make(seed)` returns a function and arguments for it. The function mixes views, element-wise operations, reductions,
contractions, indexing, sorting, loops, branches, derivatives of inner functions and custom rules, over several dtypes and
shapes. The same seed gives the same program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import asgfn
import asgfn.numpy as jnp
from asgfn import lax, nn

FLOATS = ("float32", "float32", "float32", "float16", "bfloat16")
INTEGERS = ("int32", "int32", "uint32", "int16", "uint8", "int8", "uint16")
SIZES = (1, 2, 3, 4, 5, 8, 17)
LARGE = ((700,), (33, 70), (3, 257), (130, 5), (64, 64), (2, 40, 16))
MOST = 1 << 13  # elements of a value


@asgfn.custom_jvp
def soft(x: Any) -> Any:
    return jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0)


@soft.defjvp
def _soft_jvp(primals: Any, tangents: Any) -> Any:
    return soft(*primals), tangents[0] * nn.sigmoid(primals[0])


@asgfn.custom_vjp
def clipped(x: Any) -> Any:
    return jnp.clip(x, -1, 1)


def _clipped_forward(x: Any) -> Any:
    return clipped(x), x


def _clipped_backward(x: Any, g: Any) -> Any:
    return (jnp.where(jnp.abs(x) <= 1, g, g * x.astype(g.dtype)),)


clipped.defvjp(_clipped_forward, _clipped_backward)


def kind(x: Any) -> str:
    """b, i (of any integers) or f."""
    k = np.dtype(x.dtype).kind
    return {"u": "i", "V": "f"}.get(k, k)


class Maker:
    """Writes one program, and those inside it.

    Attributes:
        choose: where all decisions come from.
        values: what was computed so far.
        smooth: whether all of it should have derivatives that rounding does not change much.
        depth: how many programs this one is in.
    """

    def __init__(self, choose: np.random.Generator, values: Sequence[Any], smooth: bool = False, depth: int = 0):
        self.choose, self.values, self.smooth, self.depth = choose, list(values), smooth, depth

    # ------------------------------------------------------------------ choices
    def number(self, low: int, high: int) -> int:
        """An integer, both bounds included."""
        return int(self.choose.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.choose.random() < p)

    def one(self, things: Sequence[Any]) -> Any:
        return things[self.number(0, len(things) - 1)]

    def any(self, allowed: str = "bif", rank: int = 0, test: Callable[[Any], bool] = lambda x: True) -> Any:
        """A value of one of these kinds; a new one if there is none. Late values are likelier."""
        found = [x for x in self.values if kind(x) in allowed and x.ndim >= rank and test(x)]
        if not found:
            shape = tuple(self.number(1, 4) for _ in range(max(rank, 1)))
            ramp = np.arange(int(np.prod(shape))).reshape(shape)
            made = jnp.asarray(((ramp % 7) - 3) / 4 if "f" in allowed else ramp % 5)
            made = made.astype("float32" if "f" in allowed else "int32" if "i" in allowed else "bool")
            return made
        k = int(len(found) * self.choose.random() ** 0.5)
        return found[k]

    def float(self, rank: int = 0, test: Callable[[Any], bool] = lambda x: True) -> Any:
        return self.any("f", rank, test)

    def axis(self, x: Any) -> int:
        return self.number(-x.ndim, x.ndim - 1)

    def shaped(self, shape: Sequence[int], allowed: str = "f") -> Any:
        """A value brought to a shape."""
        x = self.any(allowed, test=lambda x: x.size > 0)
        n = int(np.prod(shape))
        flat = x.reshape(-1)
        if flat.size < n:
            flat = jnp.tile(flat, -(-n // flat.size)) if self.chance(0.5) else jnp.resize(flat, (n,))
        return flat[:n].reshape(tuple(shape))

    def like(self, x: Any) -> Any:
        """A value that broadcasts with another."""
        fits = [
            y
            for y in self.values
            if y.size and _broadcasts(y.shape, x.shape) and kind(y) in ("f" if kind(x) == "f" else "if")
        ]
        if fits and self.chance(0.7):
            return self.one(fits)
        shape = [n if self.chance(0.7) else 1 for n in x.shape]
        return self.shaped(
            shape[self.number(0, len(shape)) :] if self.chance(0.3) else shape, "f" if kind(x) == "f" else "i"
        ).astype(x.dtype)

    # ------------------------------------------------------------------ one step
    def step(self) -> None:
        table = [*self.steps_smooth(), *([] if self.smooth else self.steps_rough())]
        if self.depth < 2:
            table += self.steps_nested() * (2 if self.depth == 0 else 1)
        made = self.one(table)()
        for x in made if isinstance(made, (tuple, list)) else [made]:
            if x is not None and x.size <= MOST and x.ndim <= 5:
                self.values.append(tame(x))

    def steps_smooth(self) -> list[Callable[[], Any]]:
        return [
            self.unary, self.unary, self.binary, self.binary, self.binary, self.reduction, self.reduction, self.view, self.view, self.view,
            self.view, self.product, self.product, self.softmax, self.normal, self.joined, self.joined, self.cumulative, self.custom,
            self.indexed, self.updated, self.windows, self.convolution, self.long_sum, self.cast,
        ]  # fmt: skip

    def steps_rough(self) -> list[Callable[[], Any]]:
        return [
            self.integers, self.integers, self.compared, self.chosen, self.chosen, self.arg, self.sorted, self.logical, self.counted,
            self.rounded, self.random, self.searched, self.extreme, self.bits,
        ]  # fmt: skip

    def steps_nested(self) -> list[Callable[[], Any]]:
        return [self.scan, self.branch, self.repeated, self.until, self.mapped, self.differentiated, self.called]

    # ------------------------------------------------------------------ element-wise
    def unary(self) -> Any:
        x = self.float()
        return self.one([
            jnp.tanh, jnp.sin, jnp.cos, nn.sigmoid, nn.gelu, nn.silu, jnp.square, jnp.negative, lambda x: jnp.exp(-jnp.abs(x)), lambda x: jnp.log1p(x * x),
            lambda x: jnp.sqrt(1 + x * x), lambda x: lax.rsqrt(1 + x * x), lambda x: 1 / (2 + jnp.cos(x)), lambda x: x**3, nn.softplus, lax.erf, jnp.arctan,
            lambda x: jnp.expm1(jnp.minimum(x, 2)), nn.relu, nn.elu, lambda x: jnp.clip(x, -0.5, 0.75), jnp.abs,
        ])(x)  # fmt: skip

    def binary(self) -> Any:
        x = self.float() if self.smooth or self.chance(0.8) else self.any("if")
        y = self.like(x)
        if kind(x) == "f":
            return self.one(
                [
                    jnp.add,
                    jnp.subtract,
                    jnp.multiply,
                    jnp.maximum,
                    jnp.minimum,
                    jnp.hypot,
                    lambda a, b: a / (1 + b * b),
                    jnp.logaddexp,
                ]
            )(x, y)
        return self.one([jnp.add, jnp.subtract, jnp.multiply, jnp.maximum, jnp.minimum])(x, y)

    def cast(self) -> Any:
        if self.smooth:
            return self.float().astype(self.one(FLOATS))
        x = self.any()
        target = self.one(("float32", "float16", "bfloat16", "int32", "uint8", "bool", "int16", "uint32", "int8"))
        return (jnp.clip(x, 0, 3) if kind(x) == "f" and target not in FLOATS else x).astype(target)

    def integers(self) -> Any:
        x = self.any("i")
        y = self.like(x)
        if kind(y) != "i":
            y = y.astype("int32")
        small = jnp.abs(y % 7)
        return self.one([
            lambda: x & y, lambda: x | y, lambda: x ^ y, lambda: ~x, lambda: x << small.astype(x.dtype), lambda: x >> small.astype(x.dtype),
            lambda: x // (small + 1), lambda: x % (small + 1), lambda: lax.population_count(x), lambda: lax.clz(x), lambda: jnp.sign(x), lambda: x * x, lambda: -x,
            lambda: jnp.abs(x),
        ])()  # fmt: skip

    def bits(self) -> Any:
        x = self.any("i", test=lambda x: np.dtype(x.dtype).itemsize == 4)
        return lax.bitcast_convert_type(x, "int32" if x.dtype == np.uint32 else "uint32") & 0xFF

    def compared(self) -> Any:
        x = self.any("if")
        return self.one([jnp.less, jnp.less_equal, jnp.greater, jnp.equal, jnp.not_equal])(x, self.like(x))

    def logical(self) -> Any:
        x = self.any("b")
        return self.one(
            [
                lambda: ~x,
                lambda: x & (self.shaped(x.shape, "b")),
                lambda: x ^ self.shaped(x.shape, "b"),
                lambda: jnp.any(x),
                lambda: jnp.all(x, keepdims=True),
            ]
        )()

    def chosen(self) -> Any:
        x = self.any("if")
        if self.chance(0.3):
            return lax.select_n(self.shaped(x.shape, "i").astype("int32") % 3, x, x * 2, x + 1)
        return jnp.where(self.shaped(x.shape, "bi") > 0, x, self.one([0, 1, self.like(x)]))

    def rounded(self) -> Any:
        return self.one([jnp.floor, jnp.ceil, jnp.round, jnp.trunc, jnp.sign])(self.float() * 1.5)

    def extreme(self) -> Any:
        x = self.any("f", test=lambda x: x.size > 1)
        flat = x.reshape(-1)
        value = self.one([np.inf, -np.inf, np.nan, -0.0, 1e30, 1e-30])
        return self.one(
            [
                jnp.nan_to_num,
                jnp.isfinite,
                jnp.isnan,
                lambda x: jnp.maximum(x, 0.5),
                jnp.signbit,
                lambda x: jnp.max(x),
                lambda x: jnp.exp(-jnp.abs(x)),
            ]
        )(flat.at[self.number(0, flat.size - 1)].set(value))

    # ------------------------------------------------------------------ reductions
    def axes(self, x: Any) -> Any:
        if x.ndim == 0 or self.chance(0.15):
            return None
        chosen = tuple(k for k in range(x.ndim) if self.chance(0.5))
        return chosen or (self.axis(x),)

    def reduction(self) -> Any:
        x = (
            self.float(test=lambda x: x.size > 0)
            if self.smooth or self.chance(0.75)
            else self.any(test=lambda x: x.size > 0)
        )
        axis, keep = self.axes(x), self.chance(0.5)
        if kind(x) == "f":
            f = self.one([jnp.sum, jnp.mean, jnp.max, jnp.min, jnp.var, jnp.prod, nn.logsumexp])
            if f is jnp.prod:
                x = 1 + 0.1 * jnp.tanh(x)
            reduced = f(x, axis=axis, keepdims=keep)
        else:
            reduced = self.one([jnp.sum, jnp.max, jnp.min, jnp.any, jnp.all, jnp.count_nonzero])(
                x, axis=axis, keepdims=keep
            )
        return [reduced, x - reduced] if keep and kind(x) == kind(reduced) == "f" else reduced

    def long_sum(self) -> Any:
        x = self.shaped(self.one(LARGE))
        y = x * jnp.cos(jnp.arange(x.shape[-1], dtype=x.dtype))
        return jnp.mean(y, axis=self.one([None, -1, 0])) if self.chance(0.8) else y

    def softmax(self) -> Any:
        x = self.float(1, lambda x: x.size > 0)
        return self.one([nn.softmax, nn.log_softmax])(x, axis=self.axis(x))

    def normal(self) -> Any:
        x = self.float(1, lambda x: x.size > 0)
        axis = self.axis(x)
        d = x - x.mean(axis, keepdims=True)
        return d * lax.rsqrt((d * d).mean(axis, keepdims=True) + 0.1)

    def cumulative(self) -> Any:
        x = self.any("f" if self.smooth else "if", 1)
        axis = self.number(0, x.ndim - 1)
        f = self.one([lax.cumsum, lax.cummax, lax.cummin, lax.cumsum, lax.cumlogsumexp])
        if f is lax.cumlogsumexp and kind(x) != "f":
            f = lax.cumsum
        return f(x * 0.25 if kind(x) == "f" else x, axis, reverse=self.chance(0.3))

    def arg(self) -> Any:
        x = self.any("if", 1, lambda x: x.size > 0)
        return self.one([jnp.argmax, jnp.argmin])(x, axis=self.axis(x), keepdims=self.chance(0.3))

    def counted(self) -> Any:
        x = self.any("i", 1)
        return jnp.bincount(x.reshape(-1) & 7, length=self.number(3, 9))

    # ------------------------------------------------------------------ views
    def view(self) -> Any:
        x = self.any("f" if self.smooth else "bif")
        makers: list[Callable[[], Any]] = [
            lambda: x.reshape(self.factors(x.size)), lambda: x[None], lambda: jnp.expand_dims(x, x.ndim), lambda: jnp.broadcast_to(x, (self.number(1, 4), *x.shape)), lambda: x.ravel(),
        ]  # fmt: skip
        if x.ndim:
            makers += [
                lambda: x.transpose(tuple(self.choose.permutation(x.ndim).tolist())), lambda: jnp.flip(x, self.axis(x)), lambda: self.sliced(x), lambda: self.sliced(x),
                lambda: self.padded(x), lambda: self.padded(x), lambda: jnp.roll(x, self.number(-3, 3), self.axis(x)), lambda: jnp.repeat(x, self.number(1, 3), self.axis(x)),
                lambda: jnp.tile(x, self.number(1, 3)), lambda: x.squeeze(), lambda: jnp.moveaxis(x, 0, -1), lambda: jnp.swapaxes(x, 0, -1),
            ]  # fmt: skip
        return self.one(makers)()

    def factors(self, n: int) -> tuple[int, ...]:
        shape = []
        while n > 1 and len(shape) < 3 and self.chance(0.8):
            d = self.one([k for k in range(1, n + 1) if n % k == 0][:8])
            shape.append(d)
            n //= d
        return (*shape, n)

    def sliced(self, x: Any) -> Any:
        places = []
        for n in x.shape:
            a, b = sorted((self.number(0, n), self.number(0, n)))
            places.append(
                self.one(
                    [
                        slice(None),
                        slice(a, max(b, min(a + 1, n)), self.number(1, 3)),
                        slice(None, None, -1),
                        slice(a, None),
                        slice(-2, None),
                    ]
                )
            )
        return x[tuple(places)]

    def padded(self, x: Any) -> Any:
        config = []
        for n in x.shape:
            low, high, inner = self.number(-1, 2), self.number(-1, 2), self.number(0, 1)
            if (n - 1) * inner + n + low + high < 1:
                low = high = 1
            config.append((low, high, inner))
        return lax.pad(x, jnp.asarray(1 if kind(x) != "f" else 0.5, x.dtype), tuple(config))

    def joined(self) -> Any:
        x = self.any("f" if self.smooth else "bif", 1)
        axis = self.number(0, x.ndim - 1)
        others = []
        for _ in range(self.number(1, 3)):
            shape = [*x.shape]
            shape[axis] = self.number(1, 4)
            others.append(self.shaped(shape, kind(x)).astype(x.dtype))
        if self.chance(0.3):
            return jnp.stack([x, self.shaped(x.shape, kind(x)).astype(x.dtype), x], axis)
        pieces = [x, *others]
        return jnp.concatenate([pieces[k] for k in self.choose.permutation(len(pieces))], axis)

    # ------------------------------------------------------------------ indexing, sorting
    def places(self, shape: Sequence[int], size: int) -> Any:
        """Numbers that may be used as indices, computed."""
        if self.smooth:
            return jnp.asarray(self.choose.integers(0, size, shape), "int32")
        return jnp.abs(self.shaped(shape, "i").astype("int32") % (size + 1)) - self.number(0, 1)

    def indexed(self) -> Any:
        x = self.any("f" if self.smooth else "bif", 1, lambda x: x.size > 0)
        axis = self.number(0, x.ndim - 1)
        n = x.shape[axis]
        one = self.places((), n)
        return self.one([
            lambda: jnp.take(x, self.places((self.number(1, 5),), n), axis=axis, mode="clip"), lambda: jnp.take_along_axis(x, self.places(x.shape, n) % n, axis=axis),
            lambda: lax.dynamic_index_in_dim(x, one, axis), lambda: lax.dynamic_slice_in_dim(x, one, self.number(1, n), axis),
            lambda: x[self.places((2, 3), x.shape[0])], lambda: x.at[self.places((4,), x.shape[0])].get(mode="fill", fill_value=1),
            lambda: x[..., self.places((3,), x.shape[-1])],
        ])()  # fmt: skip

    def updated(self) -> Any:
        x = self.any("f" if self.smooth else "if", 1, lambda x: x.size > 0)
        axis = self.number(0, x.ndim - 1)
        at = self.places((self.number(1, 6),), x.shape[0])
        update = self.shaped((at.shape[0], *x.shape[1:]), kind(x)).astype(x.dtype)
        one = self.places((), x.shape[axis])
        row = self.shaped([1 if k == axis else n for k, n in enumerate(x.shape)], kind(x)).astype(x.dtype)
        makers = [
            lambda: x.at[at].add(update * self.one([1, 2])),
            lambda: lax.dynamic_update_slice_in_dim(x, row, one, axis),
            lambda: x.at[self.number(0, x.shape[0] - 1)].set(update[0]),
        ]
        if not self.smooth:
            makers += [
                lambda: x.at[at].max(update),
                lambda: x.at[at].min(update),
                lambda: x.at[jnp.argsort(x.reshape(x.shape[0], -1)[:, 0])].set(x * 2),
                lambda: x.at[at[0]].multiply(update[0]),
            ]
        return self.one(makers)()

    def sorted(self) -> Any:
        x = self.any("if", 1, lambda x: x.size > 0)
        axis = self.axis(x)
        return self.one([
            lambda: jnp.sort(x, axis=axis), lambda: jnp.argsort(x, axis=axis), lambda: jnp.sort(x, axis=axis, descending=True), lambda: lax.top_k(x, self.number(1, x.shape[-1])),
            lambda: lax.sort((x, self.shaped(x.shape)), dimension=axis, num_keys=1)[1], lambda: jnp.median(x.astype("float32"), axis=axis),
        ])()  # fmt: skip

    def searched(self) -> Any:
        x = self.any("f", 1, lambda x: x.size > 0)
        return jnp.searchsorted(jnp.sort(x.reshape(-1)), self.float())

    # ------------------------------------------------------------------ contractions, windows
    def product(self) -> Any:
        x = self.float(1, lambda x: x.size > 0)
        if not self.smooth and self.chance(0.1):
            x = self.any("i", 1, lambda x: x.size > 0)
        k = x.shape[-1]
        n = self.one([*SIZES, 65])
        match self.number(0, 4):
            case 0:
                return x @ self.shaped((k, n), kind(x)).astype(x.dtype) / (1 if kind(x) == "i" else k)
            case 1 if x.ndim > 1:
                y = self.shaped((*x.shape[:-2], k, n), kind(x)).astype(x.dtype)
                return jnp.matmul(x, y)
            case 2:
                return jnp.einsum("...k,nk->n...", x, self.shaped((n, k), kind(x)).astype(x.dtype))
            case 3:
                m = x.shape[0]
                return jnp.tensordot(x, self.shaped((n, m), kind(x)).astype(x.dtype), axes=((0,), (1,)))
        rows = x.reshape(-1, k)
        return jnp.einsum("ik,jk->ij", rows[:40], rows[::-1][:40])

    def windows(self) -> Any:
        x = self.float(2, lambda x: x.size > 0)
        window = tuple(self.number(1, min(3, n)) for n in x.shape)
        strides = tuple(self.number(1, 2) for _ in x.shape)
        padding = self.one(["VALID", "SAME"])
        if self.chance(0.5):
            return lax.reduce_window(x, jnp.asarray(0, x.dtype), lax.add, window, strides, padding)
        return lax.reduce_window(x, jnp.asarray(-np.inf, x.dtype), lax.max, window, strides, padding)

    def convolution(self) -> Any:
        channels, out = self.number(1, 3), self.number(1, 4)
        x = self.shaped((self.number(1, 2), channels, self.number(4, 7), self.number(4, 9)))
        w = self.shaped((out, channels, self.number(1, 3), self.number(1, 3))).astype(x.dtype)
        return lax.conv_general_dilated(
            x,
            w,
            (self.number(1, 2), self.number(1, 2)),
            self.one(["SAME", "VALID"]),
            rhs_dilation=(1, self.number(1, 2)),
        )

    # ------------------------------------------------------------------ others
    def random(self) -> Any:
        key = asgfn.random.key(self.shaped((), "i").astype("uint32"))
        shape = (self.number(1, 40), self.number(1, 3))
        return self.one(
            [
                lambda: asgfn.random.uniform(key, shape),
                lambda: asgfn.random.normal(key, shape),
                lambda: asgfn.random.randint(key, shape, 0, 9),
                lambda: asgfn.random.bernoulli(key, 0.4, shape),
            ]
        )()

    def custom(self) -> Any:
        return self.one([soft, clipped])(self.float())

    # ------------------------------------------------------------------ programs inside
    def inner(self, values: Sequence[Any], like: Any = None, length: int = 4, smooth: bool | None = None) -> Any:
        """A value computed from others, or one with the type of another."""
        maker = Maker(self.choose, values, self.smooth if smooth is None else smooth, self.depth + 1)
        for _ in range(self.number(1, length)):
            maker.step()
        if like is None:
            return maker.values[-1]
        made = maker.shaped(like.shape, "f" if kind(like) == "f" else "if")
        if kind(like) == "f":
            return (jnp.tanh(made) + 0.5 * like).astype(like.dtype)
        return made.astype(like.dtype)

    def scan(self) -> Any:
        x = self.any("f" if self.smooth else "if", 1, lambda x: 0 < x.shape[0] <= 20)
        start = self.float(test=lambda x: x.size <= 512)
        count = self.number(0, 3)
        seed = self.number(0, 1 << 30)
        extra = self.any("f" if self.smooth else "bif", test=lambda x: x.size <= 512)

        def body(carry: Any, row: Any) -> Any:
            inner = Maker(np.random.default_rng(seed), self.values, self.smooth, self.depth)
            c, n = carry
            new = inner.inner([c, row, extra], like=c)
            out = inner.inner([new, row, c])
            outs = (out, new, row * 2)[:count]
            return (new, n + 1), outs

        (carry, _), rows = lax.scan(body, (start, jnp.int32(0)), x, reverse=self.chance(0.3))
        return [carry, *rows]

    def branch(self) -> Any:
        operands = [self.float(), self.any("f" if self.smooth else "bif")]
        like = operands[0]
        seeds = [self.number(0, 1 << 30) for _ in range(self.number(2, 3))]

        def made(seed: int) -> Callable:
            def f(*operands: Any) -> Any:
                maker = Maker(np.random.default_rng(seed), [], self.smooth, self.depth)
                return maker.inner(operands, like=like), maker.one([operands[0], operands[0] * 2])

            return f

        if len(seeds) == 2:
            condition = self.shaped((), "bi") > 0 if not self.smooth else jnp.asarray(self.chance(0.5))
            return lax.cond(condition, made(seeds[0]), made(seeds[1]), *operands)
        index = self.shaped((), "i").astype("int32") % 4 if not self.smooth else jnp.int32(1)
        return lax.switch(index, [made(s) for s in seeds], *operands)

    def repeated(self) -> Any:
        x = self.float(test=lambda x: x.size <= 512)
        seed, steps = self.number(0, 1 << 30), self.number(0, 5)

        def body(i: Any, c: Any) -> Any:
            return Maker(np.random.default_rng(seed), [], self.smooth, self.depth).inner(
                [c, i.astype("float32") * 0.5], like=c
            )

        return lax.fori_loop(0, steps, body, x)

    def until(self) -> Any:
        x = self.float(test=lambda x: x.size <= 512)
        seed = self.number(0, 1 << 30)
        limit = jnp.int32(self.number(0, 6)) if self.smooth else self.shaped((), "i").astype("int32") % 7

        def body(carry: Any) -> Any:
            i, c, last = carry
            return i + 1, Maker(np.random.default_rng(seed), [], self.smooth, self.depth).inner([c, last], like=c), c

        most = {"max_steps": 7} if self.smooth else {}
        _, c, last = lax.while_loop(lambda carry: carry[0] < limit, body, (jnp.int32(0), x, x * 2), **most)
        return [c, last]

    def mapped(self) -> Any:
        x = self.any("f" if self.smooth else "bif", 1, lambda x: 0 < x.shape[0] <= 20)
        y = self.float(test=lambda x: x.size <= 64)
        seed = self.number(0, 1 << 30)
        f = lambda row: Maker(np.random.default_rng(seed), [], self.smooth, self.depth).inner([row, y])
        return asgfn.vmap(f, in_axes=0, out_axes=0)(x)

    def differentiated(self) -> Any:
        x = self.float(test=lambda x: 0 < x.size <= 512 and x.dtype == np.float32)
        y = self.float(test=lambda x: x.size <= 512)
        seed = self.number(0, 1 << 30)

        def f(x: Any) -> Any:
            made = Maker(np.random.default_rng(seed), [], True, self.depth).inner([y, x, jnp.sin(x)], smooth=True)
            return (
                (jnp.tanh(made).astype("float32") * 0.5).sum() / made.size
                if kind(made) == "f" and made.size
                else x.sum()
            )

        if self.chance(0.3):
            f = asgfn.checkpoint(f)
        return asgfn.grad(f)(x)

    def called(self) -> Any:
        x, y = self.any("f" if self.smooth else "bif"), self.float()
        seed = self.number(0, 1 << 30)
        f = lambda *args: Maker(np.random.default_rng(seed), [], self.smooth, self.depth).inner(args)
        return self.one([asgfn.jit, asgfn.checkpoint, asgfn.jit])(f)(x, y)


def tame(x: Any) -> Any:
    """Keeps numbers in a range where rounding matters little; rarely needed, so that it rarely gets between operations."""
    return x


def _broadcasts(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(m == n or m == 1 for m, n in zip(a[::-1], b[::-1])) and len(a) <= len(b)


def arguments(choose: np.random.Generator, smooth: bool) -> list[np.ndarray]:
    """Arrays of several shapes and dtypes."""
    found = []
    for k in range(int(choose.integers(2, 5))):
        shape = tuple(choose.choice(SIZES, int(choose.integers(0, 4))).tolist())
        if choose.random() < 0.15:
            shape = LARGE[int(choose.integers(len(LARGE)))]
        if choose.random() < 0.03:
            shape = (0, *shape[1:])
        if k == 0 or smooth or choose.random() < 0.6:
            dtype = "float32" if k == 0 else FLOATS[int(choose.integers(len(FLOATS)))]
            found.append(jnp.asarray(choose.standard_normal(shape).astype(np.float32)).astype(dtype))
        elif choose.random() < 0.2:
            found.append(jnp.asarray(choose.random(shape) < 0.5))
        else:
            dtype = INTEGERS[int(choose.integers(len(INTEGERS)))]
            found.append(jnp.asarray(choose.integers(0 if dtype[0] == "u" else -5, 9, shape)).astype(dtype))
    return found


def make(seed: int, length: int = 12) -> tuple[Callable, list[Any]]:
    """A function, and arguments for it. Every third function is the gradient of a smooth one."""
    choose = np.random.default_rng(seed)
    smooth = seed % 3 == 2
    args = arguments(choose, smooth)
    steps = int(choose.integers(2, length + 1))
    inner = int(choose.integers(1 << 30))

    def program(*args: Any) -> list[Any]:
        maker = Maker(np.random.default_rng(inner), args, smooth)
        for _ in range(steps):
            maker.step()
        made = maker.values[len(args) :]
        return [*made[-3:], *(made[k] for k in maker.choose.permutation(len(made))[:3])]

    if not smooth:
        return program, args

    def value(*args: Any) -> Any:
        total = jnp.float32(0)
        for out in program(*args):
            if kind(out) == "f" and out.size:
                total += (
                    jnp.tanh(out.astype("float32")) * jnp.cos(jnp.arange(out.size, dtype="float32")).reshape(out.shape)
                ).mean()
        return total

    return asgfn.value_and_grad(value, argnums=tuple(range(len(args)))), args
