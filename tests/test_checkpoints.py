"""Checkpoints of pytrees: what goes in comes out, what does not fit is named, what is no data is refused."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn
import asgfn.numpy as jnp
import nn_fn
from asgfn import random, tree_util
from nn_fn.checkpoints import (
    CheckpointError,
    CheckpointMismatchError,
    list_tensors,
    load_checkpoint,
    load_file,
    load_metadata,
    save_checkpoint,
    tensor_info,
)
from nn_fn.checkpoints.safetensors_file import DTYPES

KEY = random.key(3)


class Moments(NamedTuple):
    """As an optimiser's state."""

    count: Any
    mu: Any


class Empty(NamedTuple):
    """As the state of a transformation that has none."""


@tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """A registered dataclass with a static field."""

    weight: Any
    bias: Any
    name: str = dataclasses.field(default="", metadata={"static": True})


@tree_util.register_pytree_node_class
class Pair:
    """A node whose children have no names."""

    def __init__(self, a: Any, b: Any):
        self.a, self.b = a, b

    def tree_flatten(self) -> tuple:
        return (self.a, self.b), None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> Pair:
        return cls(*children)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sample_tree() -> dict:
    optimiser = nn_fn.adam(1e-3)
    params = {"block": [{"attn": {"q": {"weight": jnp.asarray(numbers(3, 4))}}}, {"bias": jnp.asarray(numbers(2))}]}
    return {"params": params, "optimiser": optimiser.init(params), "step": jnp.asarray(7, jnp.int32)}


def assert_same(a: Any, b: Any) -> None:
    """Equal structures, types and bits; arrays may be asgfn's or NumPy's."""
    assert asgfn.tree.structure(a) == asgfn.tree.structure(b)
    for x, y in zip(asgfn.tree.leaves(a), asgfn.tree.leaves(b), strict=True):
        if hasattr(y, "dtype"):
            assert x.shape == y.shape and x.dtype == y.dtype
            assert getattr(x, "weak_type", False) == getattr(y, "weak_type", False)
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
        else:
            assert type(x) is type(y) and (x == y or (x != x and y != y))
            assert not isinstance(x, float) or math.copysign(1, x) == math.copysign(1, y)


def save_and_load(folder: Path, tree: Any, like: Any = None, **options: Any) -> Any:
    return load_checkpoint(save_checkpoint(folder / "c.safetensors", tree), like, **options)[0]


# -------------------------------------------------------------------------------------------------------- round trips
def test_round_trip(tmp_path):
    tree, notes = sample_tree(), {"epoch": 3, "name": "Zoë", "rates": [0.1, 0.2], "nested": {"a": None}, "x": math.inf}
    path = nn_fn.save_checkpoint(tmp_path / "new" / "folder" / "c.safetensors", tree, notes)
    assert isinstance(path, Path) and [p.name for p in path.parent.iterdir()] == ["c.safetensors"]
    like = asgfn.tree.map(jnp.zeros_like, tree)
    for options in ({}, {"mmap": True}, {"verify": False}, {"mmap": True, "verify": False}):
        loaded, metadata = nn_fn.load_checkpoint(path, like, **options)
        assert_same(loaded, tree)
        assert metadata == notes
        assert all(isinstance(leaf, asgfn.Array) for leaf in asgfn.tree.leaves(loaded))
    shapes, _ = nn_fn.load_checkpoint(str(path), asgfn.eval_shape(lambda: tree))
    assert_same(shapes, tree)
    assert load_metadata(path) == notes


def test_arrays_have_readable_names_for_other_programs(tmp_path):
    tree = sample_tree()
    path = save_checkpoint(tmp_path / "c.safetensors", tree)
    names = list_tensors(path)
    assert "params.block.0.attn.q.weight" in names and "optimiser.0.mu.block.1.bias" in names and "step" in names
    from safetensors.numpy import load_file as library_load

    for loaded in (library_load(path), load_file(path)):
        weight = tree["params"]["block"][0]["attn"]["q"]["weight"]
        np.testing.assert_array_equal(loaded["params.block.0.attn.q.weight"], weight)
    assert list_tensors(save_checkpoint(tmp_path / "d", jnp.ones(2))) == ["value"]


def test_names_that_meet_are_told_apart(tmp_path):
    tree = {
        "a.b": np.float32(1), "a": {"b": np.float32(2)}, "__metadata__": np.float32(3), "": np.float32(4),
        1: np.float32(5), "1": np.float32(6), "a.b#2": np.float32(7), "\ud800": np.float32(8),
    }  # fmt: skip
    for like in (None, tree):
        loaded = save_and_load(tmp_path, tree, like)
        assert list(loaded) == list(tree)
        assert float(loaded["a"]["b"]) == 2 and [float(x) for x in loaded.values() if x is not loaded["a"]] == [
            1, 3, 4, 5, 6, 7, 8,
        ]  # fmt: skip


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.itemsize < 8 or d == np.complex64])
def test_dtypes(tmp_path, dtype):
    tree = [
        np.arange(6).reshape(2, 3).astype(dtype),
        np.ones((), dtype),
        np.zeros((0, 2), dtype),
        np.ones((3, 2), dtype).T,
    ]
    for like in (None, tree):
        loaded = save_and_load(tmp_path, tree, like)
        assert_same(loaded, tree)
        # asgfn does not compute with float8
        assert all(isinstance(x, np.ndarray if "float8" in dtype.name else asgfn.Array) for x in loaded)


def test_special_values_and_empty_trees(tmp_path):
    tree = jnp.asarray([np.nan, np.inf, -np.inf, -0.0, 1e-45], jnp.float32)
    assert_same(save_and_load(tmp_path, tree, tree), tree)
    for tree in ({}, [], (), None, Empty(), {"a": [], "b": ({}, None)}, [[[]]]):
        assert_same(save_and_load(tmp_path, tree, tree), tree)


def test_python_values_come_back_as_such(tmp_path):
    tree = {
        "rate": 0.5, "none": None, "yes": True, "n": 7, "big": 2**200, "small": -(2**64), "edge": [2**64 - 1, -(2**63)],
        "text": "Zoë ☃ \0 \ud800", "bytes": b"\0\xff", "complex": 1 - 2j, "inf": -math.inf, "nan": math.nan,
        "zero": -0.0, ("a", 1, (None, 2.5)): [b"", ""], 2**70: 1, None: 2, True: 3,
    }  # fmt: skip
    for like in (None, tree):
        loaded = save_and_load(tmp_path, tree, like)
        assert list(map(repr, loaded.items())) == list(map(repr, tree.items()))
        assert loaded["n"] == 7 and type(loaded["yes"]) is bool


def test_numpy_random_state_of_a_loader(tmp_path):
    generator = np.random.default_rng(5)
    generator.normal(size=3)
    state = generator.bit_generator.state  # holds integers of 128 bits
    loaded = save_and_load(tmp_path, {"rng": state, "position": 12}, {"rng": ..., "position": 0})
    assert loaded == {"rng": state, "position": 12}
    again = np.random.default_rng()
    again.bit_generator.state = loaded["rng"]
    assert again.integers(2**60) == generator.integers(2**60)


def test_weak_types_stay_weak(tmp_path):
    tree = {"weak": jnp.asarray(0.5), "strong": jnp.asarray(0.5, jnp.float32)}
    assert tree["weak"].weak_type and not tree["strong"].weak_type
    for like in (None, tree, asgfn.eval_shape(lambda: tree)):
        loaded = save_and_load(tmp_path, tree, like)
        assert_same(loaded, tree)
        assert (loaded["weak"] * jnp.ones((), jnp.bfloat16)).dtype == ml_dtypes.bfloat16


def test_64_bits(tmp_path):
    with asgfn.enable_x64():
        tree = {"x": jnp.asarray(np.pi), "n": jnp.asarray(2**40), "c": np.arange(3, dtype=np.uint64)}
        path = save_checkpoint(tmp_path / "c", tree)
        loaded, _ = load_checkpoint(path, tree)
        assert_same(loaded, tree)
    with pytest.raises(CheckpointError, match="n holds int64 numbers that do not fit into int32: load it with"):
        load_checkpoint(path)
    loaded = save_and_load(tmp_path, {"x": np.array([np.pi, 1e300]), "n": np.array([-(2**31)]), "c": np.arange(3)})
    assert [x.dtype for x in loaded.values()] == [np.float32, np.int32, np.int32]
    assert loaded["x"].tolist() == [np.float32(np.pi), np.inf] and loaded["n"].tolist() == [-(2**31)]


def test_random_keys(tmp_path):
    tree = {"one": random.key(5), "many": random.split(KEY, 3), "raw": random.PRNGKey(1)}
    like = {"one": random.key(0), "many": random.split(random.key(0), 3), "raw": random.PRNGKey(0)}
    for expected in (None, like, asgfn.eval_shape(lambda: like)):
        loaded = save_and_load(tmp_path, tree, expected)
        np.testing.assert_array_equal(random.normal(loaded["one"], (3,)), random.normal(tree["one"], (3,)))
        np.testing.assert_array_equal(random.key_data(loaded["many"]), random.key_data(tree["many"]))
        assert isinstance(loaded["raw"], asgfn.Array)
    path = save_checkpoint(tmp_path / "c", tree)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, {"one": tree["raw"], "many": random.split(KEY, 2), "raw": tree["one"]})
    assert str(caught.value).split("\n")[1:4] == [
        "  one: key<fry>[] in the file, uint32[2] expected",
        "  many: key<fry>[3] in the file, key<fry>[2] expected",
        "  raw: uint32[2] in the file, key<fry>[] expected",
    ]


def test_classes_come_from_like(tmp_path):
    tree = {
        "state": Moments(jnp.ones((), jnp.int32), (Empty(), Moments(1, jnp.ones(2)))),
        "model": Model(jnp.ones(2), None, "here"),
        "pair": Pair(jnp.ones(2), {"x": jnp.zeros(1)}),
        "ordered": collections.OrderedDict([("z", jnp.ones(1)), ("a", jnp.zeros(1))]),
        "default": collections.defaultdict(list, {2: jnp.ones(1)}),
        "queue": collections.deque([jnp.ones(1), 2], maxlen=4),
        "partial": tree_util.Partial(jnp.sin, jnp.ones(2)),
    }
    loaded = save_and_load(tmp_path, tree, tree)
    assert_same(loaded, tree)
    assert loaded["model"].name == "here" and list(loaded["ordered"]) == ["z", "a"]
    assert loaded["default"]["new"] == [] and tree["default"].keys() == {2} and loaded["queue"].maxlen == 4


def test_without_like_containers_are_plain(tmp_path):
    state = Moments(jnp.ones((), jnp.int32), [Empty(), jnp.ones(2)])
    loaded = save_and_load(tmp_path, {"s": state, "m": Model(jnp.ones(2), 5, "lost"), "p": Pair(1, 2)})
    assert type(loaded["s"]).__name__ == "Moments" and loaded["s"]._fields == ("count", "mu")
    assert int(loaded["s"].count) == 1 and len(asgfn.tree.leaves(loaded["s"])) == 2
    assert set(loaded["m"]) == {"weight", "bias"} and loaded["m"]["bias"] == 5 and loaded["p"] == {"0": 1, "1": 2}
    again = save_and_load(tmp_path, {"s": state})
    assert asgfn.tree.structure(again["s"]) == asgfn.tree.structure(loaded["s"])
    assert_same(save_and_load(tmp_path, loaded["s"], state), state)


def test_namedtuples_with_odd_names(tmp_path):
    odd = collections.namedtuple("Odd", ["a", "class", "_x"], rename=True)(1, 2, 3)
    assert odd._fields == ("a", "_1", "_2")
    assert save_and_load(tmp_path, odd)._asdict() == odd._asdict()


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5),
    st.complex_numbers(),
    st.sampled_from([d for d in DTYPES.values() if d.itemsize < 8]).flatmap(
        lambda d: st.lists(st.integers(0, 3), max_size=3).map(
            lambda shape: np.random.default_rng(len(shape)).integers(0, 2, shape).astype(d)
        )
    ),
    st.floats(width=32).map(jnp.asarray),
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.tuples(st.text(max_size=1), st.integers(0, 1)))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.builds(Moments, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Model, inner, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_any_tree(tmp_path_factory, tree):
    path = save_checkpoint(tmp_path_factory.mktemp("any") / "c", tree)
    if tree is not None:
        assert_same(load_checkpoint(path, tree)[0], tree)
    plain, _ = load_checkpoint(path, mmap=True)
    again = save_and_load(path.parent, plain)
    assert_same(again, plain)
    # order may differ: a dict of a class's children is sorted by its keys
    assert len(asgfn.tree.leaves(plain)) == len(asgfn.tree.leaves(tree))


# ----------------------------------------------------------------------------------------------------------- resuming
def test_training_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    optimiser = nn_fn.adam(0.1)

    @asgfn.jit(donate_argnums=(0, 1))
    def step(params, state, key):
        key, used = random.split(key)
        noise = random.normal(used, params.shape)
        updates, state = optimiser.update(asgfn.grad(lambda p: jnp.sum((p - noise) ** 2))(params), state, params)
        return nn_fn.apply_updates(params, updates), state, key

    def train(state, count):
        for _ in range(count):
            state = step(*state)
        return state

    def start():
        params = jnp.zeros(300)
        return params, optimiser.init(params), KEY

    straight = train(start(), 6)
    half = train(start(), 3)
    for options in ({"like": start()}, {"like": start(), "mmap": True}):
        # arrays that were loaded can be donated
        assert_same(train(save_and_load(tmp_path, half, **options), 3), straight)
    resumed = train(save_and_load(tmp_path, half), 3)  # without like, states have the same fields
    assert [np.asarray(x).tolist() for x in asgfn.tree.leaves(resumed)] == [
        np.asarray(x).tolist() for x in asgfn.tree.leaves(straight)
    ]


def test_loaded_arrays_do_not_change_with_the_file(tmp_path):
    path = save_checkpoint(tmp_path / "c", jnp.arange(500.0))
    copied, mapped = load_checkpoint(path)[0], load_checkpoint(path, mmap=True)[0]
    save_checkpoint(path, jnp.zeros(500))
    for array in (copied, mapped):
        np.testing.assert_array_equal(array, np.arange(500.0))
    doubled = asgfn.jit(lambda x: x * 2, donate_argnums=0)(mapped)
    assert float(doubled[499]) == 998 and load_checkpoint(path)[0].tolist() == [0] * 500


# ------------------------------------------------------------------------------------------------------------- errors
def test_a_checkpoint_that_does_not_fit_names_every_difference(tmp_path):
    tree = {
        "a": np.ones((2, 3), np.float32), "b": np.ones(2, np.int32), "c": np.ones(1), "list": [1, 2, 3],
        "kind": (1, 2), "state": Moments(1, {"x": 1, "y": [np.ones(1)]}), "n": 1, "f": 1, "t": "x", "empty": {},
        "none": None, "leaf": np.ones(1), "inner": {"x": 1}, "true": True,
    }  # fmt: skip
    like = {
        "a": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32), "d": np.ones(1), "list": [1, 2],
        "kind": [1, 2], "state": Moments(1, {"x": 2}), "n": 0.5, "f": np.ones((), np.float32), "t": b"x",
        "empty": {"more": {"w": 1, "v": []}}, "none": 1, "leaf": {"x": 1}, "inner": 3, "true": 1,
    }  # fmt: skip
    path = save_checkpoint(tmp_path / "c", tree)
    with pytest.raises(CheckpointMismatchError) as caught:
        load_checkpoint(path, like)
    assert str(caught.value).split("\n")[1:-1] == [
        "  a: float32[2,3] in the file, float32[3,2] expected",
        "  b: int32[2] in the file, float32[2] expected",
        "  d: missing",
        "  list.2: in the file only",
        "  kind: a tuple in the file, a list expected",
        "  state.mu.y.0: in the file only",
        # an integer is fine where a float is expected
        "  f: a Python int in the file, float32[] expected",
        "  t: a Python str in the file, a Python bytes expected",
        "  empty.more.w: missing",
        "  empty.more.v: missing",
        "  none: None in the file, a Python int expected",
        "  leaf: float64[1] in the file, a dict expected",
        "  inner: a dict in the file, a Python int expected",
        "  true: a Python bool in the file, a Python int expected",
        "  c: in the file only",
    ]
    with pytest.raises(CheckpointMismatchError, match=r"value: a Model in the file, a dict expected"):
        save_and_load(tmp_path, Model(1, 2), {"weight": 1, "bias": 2})


def test_an_ellipsis_accepts_anything(tmp_path):
    tree = {"params": jnp.ones(2), "loader": {"seen": [1, 2], "s": Moments(1, jnp.ones(3))}, "x": None}
    loaded = save_and_load(tmp_path, tree, {"params": jnp.zeros(2), "loader": ..., "x": ...})
    assert loaded["loader"]["seen"] == [1, 2] and loaded["loader"]["s"].mu.shape == (3,) and loaded["x"] is None


def test_renamed_classes_fit(tmp_path):
    renamed = collections.namedtuple("Renamed", ["count", "mu"])
    loaded = save_and_load(tmp_path, Moments(1, jnp.ones(2)), renamed(0, jnp.zeros(2)))
    assert type(loaded) is renamed and loaded.count == 1


def test_a_missing_file_a_folder_and_another_kind_of_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        load_checkpoint(tmp_path / "nothing", {})
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path, {})
    for content in (b"", b"hello", b"\0" * 64, b"\xff" * 64):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or not a safetensors file"):
            load_checkpoint(tmp_path / "other", {})
    from safetensors.numpy import save_file as library_save

    for metadata in (None, {"format": "pt"}):
        library_save({"x": np.ones(2)}, tmp_path / "foreign", metadata=metadata)
        with pytest.raises(CheckpointError, match="not a checkpoint of this kind"):
            load_checkpoint(tmp_path / "foreign", {"x": np.ones(2)})


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failed_save_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch, failing):
    tree = {"w": jnp.ones(3)}
    path = save_checkpoint(tmp_path / "c", tree, {"step": 1})

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_checkpoint(path, {"w": jnp.zeros(3)}, {"step": 2})
    monkeypatch.undo()
    loaded, metadata = load_checkpoint(path, tree)
    assert_same(loaded, tree)
    assert metadata == {"step": 1} and [p.name for p in tmp_path.iterdir()] == ["c"]


def test_the_file_and_its_folder_are_synced_in_that_order(tmp_path, monkeypatch):
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc")
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), replace(a, b)))
    save_checkpoint(tmp_path / "c", jnp.ones(2))
    assert events[0].endswith(".tmp") and events[1:] == ["rename", str(tmp_path)]


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"in\.z has dtype complex128, which safetensors files cannot hold"):
        save_checkpoint(tmp_path / "c", {"in": {"z": np.ones(2, np.complex128)}})
    for value in (object(), jnp.sin, {1, 2}, asgfn.ShapeDtypeStruct((2,), np.float32), Moments):
        with pytest.raises(TypeError, match=r"in\.f is .* which is not data"):
            save_checkpoint(tmp_path / "c", {"in": {"f": value}})
    with pytest.raises(TypeError, match=r"in has the key .* of type object"):
        save_checkpoint(tmp_path / "c", {"in": {object(): 1}})
    with pytest.raises(TypeError, match="JSON"):
        save_checkpoint(tmp_path / "c", {}, {"x": object()})
    with pytest.raises(TypeError, match="keys are text; got the key 1"):
        save_checkpoint(tmp_path / "c", {}, {"x": [{1: 2}]})
    nested: list = []
    for _ in range(300):
        nested = [nested]
    with pytest.raises(ValueError, match="more than 200 levels deep"):
        save_checkpoint(tmp_path / "c", nested)
    with pytest.raises(asgfn.errors.TracerArrayConversionError):
        asgfn.jit(lambda x: save_checkpoint(tmp_path / "c", x))(jnp.ones(2))
    assert not list(tmp_path.iterdir())


def test_deep_trees(tmp_path):
    tree: Any = jnp.ones(2)
    for level in range(200):
        tree = [lambda t: [t], lambda t: {"x": t}, lambda t: (1, t), lambda t: Moments(t, None)][level % 4](tree)
    assert_same(save_and_load(tmp_path, tree, tree), tree)
    assert len(asgfn.tree.leaves(save_and_load(tmp_path, tree))) == len(asgfn.tree.leaves(tree))


def test_information_about_a_checkpoints_arrays(tmp_path):
    path = save_checkpoint(tmp_path / "c", {"w": jnp.ones((2, 3), jnp.bfloat16)})
    info = tensor_info(path, "w")
    assert (info.dtype, info.shape, info.nbytes) == (ml_dtypes.bfloat16, (2, 3), 12)
