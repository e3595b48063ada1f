"""Thousands of damaged checkpoints: each is refused, and the manager gives the one before it. None loads wrong data."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import struct
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import msgpack
import numpy as np
import pytest

import asgfn
import asgfn.numpy as jnp
from asgfn import random
from nn_fn.checkpoints import (
    CheckpointError,
    CheckpointManager,
    DamagedCheckpointError,
    DamagedCheckpointWarning,
    load_checkpoint,
    load_file,
    load_metadata,
    save_checkpoint,
    verify_checkpoint,
)


class State(NamedTuple):
    """As an optimiser's."""

    count: Any
    mu: Any


def sample(step: int = 1) -> dict:
    return {
        "params": {"a": jnp.full((3, 4), step, jnp.float32), "b": jnp.full((3, 4), step + 0.5, jnp.float32)},
        "state": State(jnp.asarray(step), [jnp.ones(3, jnp.bfloat16), np.zeros((0, 2), ml_dtypes.float8_e4m3fn)]),
        "key": random.key(step),
        "loader": {"position": step, "big": 2**100, "text": "x", "flags": (True, None, 0.5)},
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "c.safetensors"
    return save_checkpoint(path, sample(), {"note": "all is well"}).read_bytes()


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # file systems may wait for the disk when a file is written over
    path.write_bytes(content)


def refuse(path: Path, content: bytes) -> None:
    """Every way of reading refuses these bytes as damaged."""
    put(path, content)
    for read in (
        lambda: load_checkpoint(path, sample()),
        lambda: load_checkpoint(path),
        lambda: load_checkpoint(path, sample(), mmap=True),
        lambda: verify_checkpoint(path),
    ):
        with pytest.raises(DamagedCheckpointError):
            read()


def split(content: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: Any, data: bytes, seal: bool = False) -> bytes:
    """The bytes of a file; with `seal`, under a checksum that is right, as a forger would make it."""
    header = copy.deepcopy(header)
    if seal:
        header["__metadata__"]["checksum"] = "0" * 64
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if seal:
        text = text.replace(b'"checksum":"' + b"0" * 64, b'"checksum":"' + hashlib.sha256(text).hexdigest().encode())
    return struct.pack("<Q", len(text)) + text + data


# ------------------------------------------------------------------------------------------------------------- damage
def test_a_file_that_was_taken_apart_and_put_together_is_sound(tmp_path, good):
    for content in (good, join(*split(good)), join(*split(good), seal=True)):
        put(tmp_path / "c", content)
        assert load_checkpoint(tmp_path / "c", sample())[1] == {"note": "all is well"}


def test_any_flipped_bit_is_noticed(tmp_path, good):
    path = tmp_path / "c"
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 1 << position % 8
        put(path, changed)
        with pytest.raises(DamagedCheckpointError):
            load_checkpoint(path, sample(), mmap=position % 2 == 0)


def test_truncation_at_every_length_is_noticed(tmp_path, good):
    path = tmp_path / "c"
    for length in range(len(good)):
        put(path, good[:length])
        with pytest.raises(DamagedCheckpointError):
            load_checkpoint(path, mmap=length % 2 == 0)


def noise(rng: np.random.Generator, content: bytes) -> bytes:
    """The bytes with something that disks, networks and programs do to them."""
    data = np.frombuffer(content, np.uint8).copy()
    a, b = sorted(rng.integers(0, len(data) + 1, 2))
    match rng.integers(8):
        case 0:  # several bits
            for bit in rng.integers(0, 8 * len(data), rng.integers(2, 20)):
                data[bit // 8] ^= 1 << bit % 8
        case 1:  # a lost page
            data[a:b] = 0
        case 2:  # another file's page
            data[a:b] = rng.integers(0, 256, b - a)
        case 3:  # a piece is missing
            return content[:a] + content[b:]
        case 4:  # a piece twice
            return content[:b] + content[a:]
        case 5:  # two pieces exchanged
            return content[:a] + content[b:] + content[a:b]
        case 6:  # something after the end
            return content + rng.bytes(rng.integers(1, 50))
        case 7:  # the length of the header
            return struct.pack("<Q", int(rng.integers(0, 2 ** int(rng.integers(1, 64))))) + content[8:]
    return data.tobytes()


def test_two_thousand_damaged_files_are_refused(tmp_path, good):
    rng, seen = np.random.default_rng(0), set()
    while len(seen) < 2000:
        changed = noise(rng, good)
        if changed != good and changed not in seen:
            seen.add(changed)
            put(tmp_path / "c", changed)
            with pytest.raises(DamagedCheckpointError):
                load_checkpoint(tmp_path / "c", sample() if len(seen) % 2 else None, mmap=len(seen) % 4 > 1)


def test_swapped_arrays_are_noticed(tmp_path, good):
    header, data = split(good)
    (a0, a1), (b0, b1) = header["params.a"]["data_offsets"], header["params.b"]["data_offsets"]
    assert a1 == b0
    refuse(tmp_path / "c", join(header, data[:a0] + data[b0:b1] + data[a0:a1] + data[b1:]))  # the elements
    with pytest.raises(CheckpointError, match=r"the checksums of params\.a, params\.b do not match"):
        load_checkpoint(tmp_path / "c")
    header["params.a"], header["params.b"] = header["params.b"], header["params.a"]  # the names
    refuse(tmp_path / "c", join(header, data))
    # the names, by a program that leaves the metadata alone
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = save_checkpoint(tmp_path / "d", {"a": jnp.ones(3), "b": jnp.zeros(3)})
    with safe_open(str(path), framework="numpy") as file:
        arrays, metadata = file.get_tensors(), file.metadata()
    save_file({"a": arrays["b"], "b": arrays["a"]}, path, metadata)
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(path)


def test_the_header_of_one_file_and_the_arrays_of_another(tmp_path, good):
    other = save_checkpoint(tmp_path / "d", sample(2), {"note": "all is well"}).read_bytes()
    refuse(tmp_path / "c", join(split(good)[0], split(other)[1]))
    refuse(tmp_path / "c", join(split(other)[0], split(good)[1]))


def test_unverified_arrays_still_have_a_verified_header(tmp_path, good):
    header, data = split(good)
    put(tmp_path / "c", join(header, b"\1" + data[1:]))
    load_checkpoint(tmp_path / "c", sample(), verify=False)
    header["__metadata__"]["metadata"] = json.dumps({"note": "all is lost"})
    put(tmp_path / "c", join(header, data))
    for read in (lambda: load_checkpoint(tmp_path / "c", verify=False), lambda: load_metadata(tmp_path / "c")):
        with pytest.raises(DamagedCheckpointError, match="the checksum of its header does not match"):
            read()


# ------------------------------------------------------------------------------------------------------------ forgery
NUMBERS = [
    0,
    1,
    3,
    12,
    48,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
    2**64,
    2**70,
    -1,
    -(2**63),
    0.5,
    True,
    None,
    "1",
]


def forged_headers(good: bytes) -> list[bytes]:
    """Files whose arrays' entries were changed, under a right checksum."""
    header, data = split(good)
    out = []

    def change(name: str, field: str, value: Any) -> None:
        changed = copy.deepcopy(header)
        changed[name][field] = value
        out.append(join(changed, data, seal=True))

    for name in header:
        if name == "__metadata__":
            continue
        entry = header[name]
        for number in NUMBERS:
            change(name, "shape", [number])
            change(name, "shape", [*entry["shape"], number])
            change(name, "shape", [number, 0])
            change(name, "data_offsets", [number, entry["data_offsets"][1]])
            change(name, "data_offsets", [entry["data_offsets"][0], number])
            change(name, "data_offsets", [number, number])
            change(name, "shape", number)
            change(name, "dtype", number)
        for dtype in ("F64", "U8", "BOOL", "C64", "F4", "float32", ""):
            change(name, "dtype", dtype)
    return [content for content in dict.fromkeys(out) if content != join(header, data, seal=True)]


def test_forged_shapes_offsets_and_dtypes(tmp_path, good):
    """Whoever makes a right checksum can say that an array is something else of the same size, but nothing more."""
    path, forged = tmp_path / "c", forged_headers(good)
    assert len(forged) > 800
    put(path, good)
    elements = {name: array.tobytes() for name, array in load_file(path).items()}
    whole = list(map(as_bytes, asgfn.tree.leaves(load_checkpoint(path)[0])))
    refused = 0
    for content in forged:
        put(path, content)
        try:
            arrays = load_file(path)
        except DamagedCheckpointError:
            refused += 1
            arrays = {}
        assert all(elements[name] == array.tobytes() for name, array in arrays.items())
        try:
            tree, _ = load_checkpoint(path, sample())
        except CheckpointError:
            continue
        assert list(map(as_bytes, asgfn.tree.leaves(tree))) == whole  # an array without elements had another place
    assert refused > 0.9 * len(forged)
    tracemalloc.start()
    for content in forged[::20]:
        put(path, content)
        with contextlib.suppress(DamagedCheckpointError):
            load_file(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000  # no length was believed
    tracemalloc.stop()


def as_bytes(leaf: Any) -> tuple:
    return (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) if hasattr(leaf, "dtype") else (leaf,)


def test_forged_header_lengths_take_no_memory_and_no_time(tmp_path, good):
    tracemalloc.start()
    for bits in range(64):
        for length in (2**bits - 1, 2**bits, 2**bits + 8):
            if length != struct.unpack("<Q", good[:8])[0]:
                put(tmp_path / "c", struct.pack("<Q", length) + good[8:])
                with pytest.raises(DamagedCheckpointError):
                    load_checkpoint(tmp_path / "c")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def mutate(rng: np.random.Generator, code: Any) -> Any:
    """A structure with one thing in it replaced."""
    odd = [None, 0, -1, 2**63, "x", "__class__", b"", [], ["list"], ["tuple", ["list"]], ["dict", 1], ["named"],
           ["named", "a b", "def", 1], ["named", "__import__('os')", "x", 1], ["array", "params.a", False],
           ["array", "nothing", True], ["array", 3, True], ["key", "params.a"], ["key"], ["int", 3], ["complex", 1, 2],
           ["unknown", 1], [["list"]], {}, {"a": 1}, msgpack.ExtType(5, b"x"), ["dict", ["list"], 1], 0.5,
           ["dict", "a", 1, "a", 2], ["named", "A", "x", 1, "x", 2], ["node", 1, 2, 3], ["dict", ["array", "a", True], 1],
           msgpack.Timestamp(1)]  # fmt: skip
    if not isinstance(code, list) or not code or rng.random() < 0.2:
        return odd[rng.integers(len(odd))]
    i = int(rng.integers(len(code)))
    match rng.integers(4):
        case 0:
            return code[:i] + code[i + 1 :]
        case 1:
            return [*code[:i], code[i], *code[i:]]
        case _:
            return [*code[:i], mutate(rng, code[i]), *code[i + 1 :]]


def test_forged_structures_are_refused_or_harmless(tmp_path, good):
    rng, path = np.random.default_rng(1), tmp_path / "c"
    header, data = split(good)
    code, checksums = msgpack.unpackb(base64.b64decode(header["__metadata__"]["structure"]))
    refused = 0
    for i in range(800):
        changed = copy.deepcopy(header)
        new = [mutate(rng, code), checksums] if i % 10 else mutate(rng, [code, checksums])
        structure = msgpack.packb(new)
        if i % 7 == 0:
            structure = noise(rng, structure)
        changed["__metadata__"]["structure"] = base64.b64encode(structure).decode()
        put(path, join(changed, data, seal=True))
        for like in (None, sample()):
            try:
                tree, _ = load_checkpoint(path, like)
            except CheckpointError:
                refused += 1
            else:
                assert len(asgfn.tree.leaves(tree)) >= 5
    assert refused > 1000


BOMBS: dict[str, Callable[[], bytes]] = {
    "array of 2**32": lambda: b"\xdd\xff\xff\xff\xff",
    "map of 2**32": lambda: b"\xdf\xff\xff\xff\xff",
    "bytes of 2**32": lambda: b"\xc6\xff\xff\xff\xff",
    "text of 2**32": lambda: b"\xdb\xff\xff\xff\xff",
    "extension of 2**32": lambda: b"\xc9\xff\xff\xff\xff\x01",
    "deep arrays": lambda: b"\x91" * 1_000_000,
    "deep lists": lambda: b"\x92" + b"\x92\xa4list" * 300 + b"\x01" + b"\x80",
    "deep tuples as a key": lambda: b"\x92\x93\xa4dict" + b"\x92\xa5tuple" * 400 + b"\x01\x01\x80",
    "nothing": lambda: b"",
    "bytes left over": lambda: b"\x92\x91\xa4list\x80\x00",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_structures_that_claim_to_be_huge(tmp_path, good, bomb):
    header, _ = split(good)
    header = {"__metadata__": header["__metadata__"] | {"structure": base64.b64encode(BOMBS[bomb]()).decode()}}
    put(tmp_path / "c", join(header, b"", seal=True))
    tracemalloc.start()
    with pytest.raises(DamagedCheckpointError):
        load_checkpoint(tmp_path / "c")
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"structure": "not base64!"}, {"structure": None}, {"metadata": "[1]"}, {"metadata": "{"}, {"metadata": None},
        {"metadata": "[" * 100_000}, {"format": "asgfn-checkpoint-9"}, {"format": None},
    ],
)  # fmt: skip
def test_forged_metadata(tmp_path, good, change):
    header, data = split(good)
    header["__metadata__"] |= change
    header["__metadata__"] = {name: text for name, text in header["__metadata__"].items() if text is not None}
    refuse(tmp_path / "c", join(header, data, seal=True))


@pytest.mark.parametrize("checksum", ["", "0", "g" * 64, "0" * 64, "\ud800", "A" * 64, None])
def test_forged_checksums(tmp_path, good, checksum):
    header, data = split(good)
    header["__metadata__"]["checksum"] = checksum
    if checksum is None:
        del header["__metadata__"]["checksum"]
    text = json.dumps(header, separators=(",", ":")).encode()
    refuse(tmp_path / "c", struct.pack("<Q", len(text)) + text + data)


def test_a_key_must_be_of_the_type_of_keys(tmp_path):
    path = save_checkpoint(tmp_path / "c", {"k": jnp.ones(2)})
    header, data = split(path.read_bytes())
    code, checksums = msgpack.unpackb(base64.b64decode(header["__metadata__"]["structure"]))
    structure = msgpack.packb([["dict", "k", ["key", "k"]], checksums])
    header["__metadata__"]["structure"] = base64.b64encode(structure).decode()
    assert code == ["dict", "k", ["array", "k", False]]
    put(path, join(header, data, seal=True))
    with pytest.raises(DamagedCheckpointError, match="k is not of the type of random keys"):
        load_checkpoint(path)


# ----------------------------------------------------------------------------------------------------------- fallback
def test_the_manager_gives_the_checkpoint_before_the_damaged_one(tmp_path):
    manager = CheckpointManager(tmp_path, best_metric="loss")
    for step in (1, 2):
        newest = manager.save(step, sample(step), metrics={"loss": 1 / step}, metadata={"step": step})
    content, rng = newest.read_bytes(), np.random.default_rng(2)
    for number in range(400):
        changed = noise(rng, content)
        if changed == content:
            continue
        put(newest, changed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            restored = manager.restore("best" if number % 2 else None, sample())
        assert restored.step == 1 and restored.metadata == {"step": 1} and restored.metrics == {"loss": 1.0}
        assert int(restored.tree["state"].count) == 1 and float(restored.tree["params"]["b"][2, 3]) == 1.5
        assert len(caught) == 1 and caught[0].category is DamagedCheckpointWarning
        assert str(newest) in str(caught[0].message) and "damaged" in str(caught[0].message)
    put(newest, content)
    assert manager.restore().step == manager.restore("best").step == 2
