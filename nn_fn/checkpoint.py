"""Checkpoints: a pytree of arrays in one safetensors file.

The arrays are named by their paths (``['params']['0']['weight']``). The file's metadata holds a checksum of every
array, with its dtype and shape, and of what the user adds, so that damage is found and never loaded. Files are written
to a temporary name, synced, and renamed: there is never half a checkpoint.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import asgfn.numpy as jnp
from asgfn import random
from asgfn.errors import AsgError
from asgfn.tree_util import keystr, tree_flatten_with_path, tree_unflatten

FORMAT = "asgfn-checkpoint-1"
# the names that safetensors gives to dtypes
DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64,
    "I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64,
    "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64, "C64": np.complex64,
}  # fmt: skip
STORABLE = {np.dtype(dtype) for dtype in DTYPES.values()}


class CheckpointError(AsgError, ValueError):
    """A checkpoint is damaged, or does not fit what it is loaded into."""


def save_checkpoint(path: str | os.PathLike, tree: Any, metadata: dict[str, Any] | None = None) -> Path:
    """Writes a pytree of arrays (parameters, optimiser state, step, random keys, ...) to a file, atomically.

    Arguments:
        metadata: JSON-like data to keep with it.

    Returns:
        the file's path.

    Raises:
        TypeError: an array's dtype has no place in a safetensors file, or the metadata are not JSON-like.
    """
    from safetensors.numpy import save

    path = Path(path)
    arrays = {}
    for leaf_path, leaf in tree_flatten_with_path(tree)[0]:
        name = _name(leaf_path)
        arrays[name] = np.asarray(random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
        if arrays[name].dtype not in STORABLE:
            raise TypeError(
                f"save_checkpoint: {name} has dtype {arrays[name].dtype}, which safetensors files cannot hold"
            )
    notes = json.dumps(metadata or {})
    header = {
        "format": FORMAT,
        "checksums": json.dumps({name: _checksum(array) for name, array in arrays.items()}),
        "metadata": notes,
        "metadata_checksum": str(zlib.crc32(notes.encode())),
    }
    data = save(arrays, metadata=header)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | os.PathLike, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint into the structure of `like`.

    Arguments:
        like: a pytree of what is expected: arrays, or anything with a shape and a dtype (such as what
            `asgfn.eval_shape` gives). Only structure, shapes and dtypes count.

    Returns:
        the pytree, of asgfn arrays (64-bit ones become 32-bit unless `enable_x64` is on), and the metadata.

    Raises:
        CheckpointError: the file is damaged or from something else, or its arrays do not have the paths, shapes and
            dtypes of `like`; every difference is named.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    arrays, metadata = _read(path)
    flat, structure = tree_flatten_with_path(like)
    problems, leaves = [], []
    wanted = set()
    for leaf_path, leaf in flat:
        name = _name(leaf_path)
        wanted.add(name)
        found = arrays.get(name)
        expected = _shape_and_dtype(random.key_data(leaf) if _is_key(leaf) else leaf)
        if found is None:
            problems.append(f"  {name}: missing")
        elif (found.shape, found.dtype) != expected:
            shape, dtype = expected
            problems.append(f"  {name}: {found.dtype}{list(found.shape)} in the file, {dtype}{list(shape)} expected")
        else:
            value = jnp.asarray(found)
            leaves.append(random.wrap_key_data(value) if _is_key(leaf) else value)
    problems += [f"  {name}: in the file only" for name in arrays if name not in wanted]
    if problems:
        raise CheckpointError(f"{path} does not fit:\n" + "\n".join(problems))
    return tree_unflatten(structure, leaves), metadata


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the user's metadata of a file, every byte of which was checked."""
    from safetensors import SafetensorError, deserialize

    try:
        data = path.read_bytes()
        stored = deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        if header.get("format") != FORMAT:
            found = header.get("format")
            raise CheckpointError(
                f"{path} is a safetensors file but not a checkpoint of this kind "
                f"(format {found!r}, expected {FORMAT!r})"
            )
        arrays = {
            name: np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"]) for name, entry in stored
        }
        checksums = json.loads(header["checksums"])
        notes = header["metadata"]
        damaged = [name for name in sorted({*arrays, *checksums}) if not _intact(arrays.get(name), checksums.get(name))]
        if str(zlib.crc32(notes.encode())) != header["metadata_checksum"]:
            damaged.append("the metadata")
        metadata = json.loads(notes)
    except CheckpointError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OSError, UnicodeError) as error:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from None
    if damaged:
        raise CheckpointError(f"{path} is damaged: the checksums of {', '.join(damaged[:5])} do not match")
    return arrays, metadata


def _intact(array: np.ndarray | None, checksum: Any) -> bool:
    return array is not None and _checksum(array) == checksum


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(array.tobytes(), zlib.crc32(f"{array.dtype}{array.shape}".encode()))


def _name(path: Any) -> str:
    return keystr(path) or "value"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, random.PRNGKeyArray)


def _shape_and_dtype(leaf: Any) -> tuple[tuple[int, ...], np.dtype]:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        leaf = np.asarray(leaf)
    return tuple(leaf.shape), np.dtype(leaf.dtype)
