"""Random keys and bits: the numbers of JAX 0.10.2 (default configuration), key arrays, transforms, errors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import errors, lax, random


def words(keys):
    return np.asarray(random.key_data(keys)).tolist()


@pytest.fixture
def key():
    return random.key(42)


# ---------------------------------------------------------------------------------------------- keys
@pytest.mark.parametrize(
    ("seed", "narrow", "wide"),
    [(0, [0, 0], [0, 0]), (42, [0, 42], [0, 42]), (-1, [0, 2**32 - 1], [2**32 - 1] * 2), (2**40 + 3, [0, 3], [256, 3])],
)
def test_seeds(seed, narrow, wide):
    assert words(random.key(seed)) == narrow
    assert np.asarray(random.PRNGKey(seed)).tolist() == narrow
    with asgfn.enable_x64():
        assert words(random.key(seed)) == wide
        assert words(random.key(np.int64(seed))) == wide
    assert words(asgfn.jit(random.key)(np.int32(seed & 0xFFFF))) == [0, seed & 0xFFFF]


def test_split_and_fold_in(key):
    four = [[1832780943, 270669613], [64467757, 2916123636], [2465931498, 255383827], [3134548294, 894150801]]
    assert words(random.split(key)) == four[:2]
    assert words(random.split(key, 3)) == four[:3]
    assert words(random.split(key, (2, 2))) == [four[:2], four[2:]]
    assert words(random.fold_in(key, 7)) == [2547012911, 1371500959]
    assert words(random.fold_in(key, 2**32 - 1)) == [2398536845, 3890976714]
    assert words(random.fold_in(key, jnp.int32(-1))) == [2398536845, 3890976714]
    assert words(random.clone(key)) == [0, 42]


def test_raw_keys_give_raw_keys():
    raw = random.PRNGKey(42)
    assert isinstance(raw, asgfn.Array) and raw.dtype == np.uint32
    first, second = random.split(raw)
    assert first.shape == (2,) and words(second) == [64467757, 2916123636]
    np.testing.assert_array_equal(random.normal(raw, (3,)), random.normal(random.key(42), (3,)))
    np.testing.assert_array_equal(random.normal(np.asarray(raw), (3,)), random.normal(raw, (3,)))
    assert words(random.wrap_key_data(raw)) == [0, 42]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", [162, 217, 249, 215]),
        ("uint16", [5026, 12505, 63993, 49623]),
        ("uint32", [2098992034, 2919706841, 2646866425, 2409546199]),
    ],
)
def test_bits(key, dtype, expected):
    bits = random.bits(key, (4,), dtype)
    assert bits.dtype == dtype and np.asarray(bits).tolist() == expected
    assert np.asarray(random.bits(key, (2, 2), dtype)).ravel().tolist() == expected


def test_bits_of_64(key):
    with asgfn.enable_x64():
        assert np.asarray(random.bits(key, (2,))).tolist() == [7871734211187709741, 276886910877598708]


def test_small_and_large_hashes_agree(key):
    """The backend hashes few blocks in another way than many; an element's bits depend on its index alone."""
    many = np.asarray(random.bits(key, (50_000,)))
    for size in (1, 2, 11, 12, 13, 14, 100):
        np.testing.assert_array_equal(random.bits(key, (size,)), many[:size])
    assert random.bits(key, (0, 3)).shape == (0, 3)


def test_key_arrays(key):
    keys = random.split(key, (2, 3))
    assert keys.shape == (2, 3) and keys.ndim == 2 and keys.size == 6 and len(keys) == 2
    assert repr(keys.dtype) == "key<fry>" and keys.itemsize == 8 and keys.nbytes == 48
    assert jnp.issubdtype(keys.dtype, random.prng_key) and not jnp.issubdtype(keys.dtype, np.number)
    assert not jnp.issubdtype(jnp.float32, random.prng_key)
    assert words(keys[1, 0]) == words(keys)[1][0] and words(keys[..., 1]) == np.array(words(keys))[:, 1].tolist()
    assert keys[None].shape == (1, 2, 3) and keys[:, 1:].shape == (2, 2)
    assert [row.shape for row in keys] == [(3,), (3,)]
    assert keys.reshape(3, -1).shape == keys.reshape((3, 2)).shape == (3, 2)
    assert keys.ravel().shape == keys.flatten().shape == (6,)
    assert keys.T.shape == (3, 2) and words(keys.T[2, 1]) == words(keys[1, 2])
    assert keys.swapaxes(0, 1).shape == (3, 2) and keys[None].squeeze().shape == keys[None].squeeze(0).shape == (2, 3)
    assert (
        np.asarray(keys == keys).all() and not np.asarray(keys != keys).any() and (keys[0, 0] == keys[0, 0]).shape == ()
    )
    assert repr(random.key(42)) == "Array((), dtype=key<fry>) overlaying:\n[ 0 42]"
    assert words(pickle.loads(pickle.dumps(keys))) == words(keys)
    assert random.key_impl(keys) == "threefry2x32" and random.key_dtype() == keys.dtype
    for action in (lambda: len(key), lambda: list(key), lambda: bool(key), lambda: np.asarray(key), lambda: key + 1):
        with pytest.raises(TypeError):
            action()
    for action in (lambda: keys[0, 0, 0], lambda: key[0], lambda: keys.squeeze(0), lambda: keys.swapaxes(0, 2)):
        with pytest.raises((IndexError, ValueError)):
            action()
    with pytest.raises(AttributeError, match="immutable"):
        key.shape = (1,)
    with pytest.raises(TypeError):
        hash(key)


# ---------------------------------------------------------------------------------------------- transforms
def test_keys_pass_through_transforms(key):
    expected = np.asarray(random.normal(key, (3,)))
    keys = random.split(key, 4)
    each = np.stack([np.asarray(random.normal(k, (3,))) for k in keys])
    np.testing.assert_array_equal(asgfn.jit(lambda k: random.normal(k, (3,)))(key), expected)
    np.testing.assert_array_equal(asgfn.vmap(lambda k: random.normal(k, (3,)))(keys), each)
    np.testing.assert_array_equal(asgfn.vmap(lambda k: random.normal(k, (3,)))(random.key_data(keys)), each)
    np.testing.assert_array_equal(lax.scan(lambda c, k: (c, random.normal(k, (3,))), 0, keys)[1], each)
    np.testing.assert_array_equal(
        lax.cond(True, lambda k: random.normal(k, (3,)), lambda k: jnp.zeros(3), key), expected
    )
    gradient = asgfn.grad(lambda x, k: (x * random.normal(k, (3,))).sum())(jnp.ones(3), key)
    np.testing.assert_array_equal(gradient, expected)
    assert words(asgfn.jit(lambda k: random.split(k, 4))(key)) == words(keys)
    assert words(asgfn.vmap(random.key)(jnp.arange(3))) == [[0, 0], [0, 1], [0, 2]]
    folded = asgfn.vmap(random.fold_in, in_axes=(None, 0))(key, jnp.arange(8))
    assert words(folded[7]) == [2547012911, 1371500959]
    nested = asgfn.vmap(asgfn.vmap(lambda k: random.bits(k, (2,))))(keys.reshape(2, 2))
    np.testing.assert_array_equal(nested.reshape(4, 2), asgfn.vmap(lambda k: random.bits(k, (2,)))(keys))


def test_keys_as_a_loop_carry(key):
    def step(carry, _):
        carry, subkey = random.split(carry)
        return carry, random.uniform(subkey)

    expected, carry = [], key
    for _ in range(5):
        carry, subkey = random.split(carry)
        expected.append(float(random.uniform(subkey)))
    last, numbers = lax.scan(step, key, None, length=5)
    assert np.asarray(numbers).tolist() == expected and words(last) == words(carry)


def test_a_sampler_is_one_node(key):
    graph = asgfn.jit(lambda k: random.normal(k, (3,))).lower(key).asg
    assert [(node.primitive.name, node.params["name"]) for node in graph.nodes] == [("jit", "normal")]


# ---------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (ValueError, r"takes one key, but got keys of shape \(4,\).*vmap", lambda k: random.normal(random.split(k, 4))),
        (ValueError, "takes one key", lambda k: random.split(random.split(k, 4))),
        (TypeError, r"needs a random key.*uint32.*got float32\[3\]", lambda k: random.normal(jnp.zeros(3))),
        (TypeError, r"got uint32\[3\]", lambda k: random.normal(jnp.zeros(3, "uint32"))),
        (TypeError, r"needs a random key, got 0.*asgfn\.random\.key\(0\)", lambda k: random.normal(0)),
        (TypeError, "got None", lambda k: random.normal(None)),
        (TypeError, r"tuple of integers, got \(2\.5,\)", lambda k: random.normal(k, (2.5,))),
        (ValueError, "must not be negative", lambda k: random.normal(k, (-1,))),
        (ValueError, "must not be negative", lambda k: random.split(k, -1)),
        (ValueError, "floating-point or complex dtype, not int32", lambda k: random.normal(k, (2,), "int32")),
        (ValueError, "a floating-point dtype, not complex64", lambda k: random.uniform(k, (2,), "complex64")),
        (TypeError, "makes integers, not float32", lambda k: random.randint(k, (2,), 0, 5, "float32")),
        (TypeError, "makes unsigned integers, not int32", lambda k: random.bits(k, (2,), "int32")),
        (ValueError, "minval=5 is greater than maxval=3", lambda k: random.randint(k, (2,), 5, 3)),
        (
            ValueError,
            "minval=1.0 is greater than maxval=0.0",
            lambda k: random.uniform(k, (2,), minval=1.0, maxval=0.0),
        ),
        (
            ValueError,
            r"must broadcast to shape=\(2,\), got minval \(3,\)",
            lambda k: random.uniform(k, (2,), minval=jnp.zeros(3)),
        ),
        (ValueError, "between 0 and 1, got p=1.5", lambda k: random.bernoulli(k, 1.5)),
        (TypeError, "p must be floating point, got int32", lambda k: random.bernoulli(k, 1)),
        (ValueError, r'mode is "low" or "high"', lambda k: random.bernoulli(k, 0.5, mode="x")),
        (ValueError, "one probability for each of the 3 elements", lambda k: random.choice(k, 3, p=jnp.ones(4))),
        (ValueError, "5 samples without replacement", lambda k: random.choice(k, 3, (5,), replace=False)),
        (ValueError, "nothing to choose from", lambda k: random.choice(k, 0, (2,))),
        (TypeError, "takes an array or an integer", lambda k: random.permutation(k, 2.5)),
        (ValueError, "axis 3 is out of range", lambda k: random.permutation(k, jnp.zeros((2, 2)), axis=3)),
        (ValueError, "axis 2 is out of range", lambda k: random.categorical(k, jnp.zeros((2, 2)), axis=2)),
        (
            ValueError,
            "more than the 2 categories",
            lambda k: random.categorical(k, jnp.zeros(2), shape=(3,), replace=False),
        ),
        (
            ValueError,
            r"do not broadcast together: a \(2,\), b \(3,\)",
            lambda k: random.beta(k, jnp.ones(2), jnp.ones(3)),
        ),
        (TypeError, "must be real, got complex64", lambda k: random.gamma(k, jnp.ones(2, "complex64"))),
        (ValueError, r"alpha has shape \(\.\.\., n\)", lambda k: random.dirichlet(k, 1.0)),
        (
            ValueError,
            r"got mean \(2,\) and cov \(3, 3\)",
            lambda k: random.multivariate_normal(k, jnp.ones(2), jnp.eye(3)),
        ),
        (TypeError, "scalar seed.*vmap", lambda k: random.key(jnp.arange(2))),
        (TypeError, "integer seed", lambda k: random.key(1.5)),
        (TypeError, "got a key", lambda k: random.key(k)),
        (OverflowError, "does not fit into 64 bits", lambda k: random.key(2**65)),
        (OverflowError, r"0 <= data < 2\*\*32", lambda k: random.fold_in(k, -1)),
        (TypeError, "takes an integer, but got dtype float32", lambda k: random.fold_in(k, 1.5)),
        (TypeError, r"takes a scalar.*vmap", lambda k: random.fold_in(k, jnp.arange(2))),
        (ValueError, "unknown random generator 'rbg'", lambda k: random.key(0, impl="rbg")),
    ],
)
def test_errors(key, error, text, call):
    with pytest.raises(error, match=text):
        call(key)


def test_errors_are_asgfn_errors(key):
    with pytest.raises(errors.ShapeError):
        random.normal(random.split(key))
    with pytest.raises(errors.DTypeError):
        random.normal(key, (), "int32")
    with pytest.raises(errors.NotAnArrayError):
        random.normal("key")
