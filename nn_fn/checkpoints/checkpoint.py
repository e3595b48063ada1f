"""Checkpoints: a pytree in one safetensors file.

Arrays are the file's arrays, under their path names, so that any reader of safetensors files can read them. The
header's metadata hold the rest as text:

    format       FORMAT
    structure    base64 of msgpack of [code of the tree (see `tree_codec`), {name of an array: SHA-256 of its bytes}]
    metadata     the user's notes in JSON
    checksum     SHA-256 of the header, in which the checksum's own digits are zeros

The header says where in the file each array is and what its bytes must be, so the one checksum guards the whole file.
It finds accidents, not attacks: who changes a file on purpose can compute a new one. But nothing in a file is ever run
as code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from asgfn import dtypes
from asgfn.graph.types import ArrayType
from asgfn.tracing import concrete
from nn_fn.checkpoints.errors import CheckpointMismatchError, DamagedCheckpointError
from nn_fn.checkpoints.files import write_atomically
from nn_fn.checkpoints.safetensors_file import Header, SafetensorsReader, elements, file_chunks, header_bytes
from nn_fn.checkpoints.tree_codec import ABSENT, Code, decode, differences, encode, leaves

FORMAT = "asgfn-checkpoint-2"
_CHECKSUM = re.compile("[0-9a-f]{64}")
_ZEROS = "0" * 64


def save_checkpoint(path: str | os.PathLike, tree: Any, metadata: Mapping[str, Any] | None = None) -> Path:
    """Writes a pytree (parameters, optimiser state, step, random keys, loader position, ...) to a file, atomically.

    Arguments:
        path: the file, by custom `*.safetensors`. A file of this name is replaced once the new one is complete.
        tree: dicts, lists, tuples, NamedTuples, registered dataclasses and other pytree nodes (of these only the
            children are stored, not static fields), around arrays of any dtype that safetensors files can hold, random
            keys, Python numbers, text, bytes and None.
        metadata: JSON-like notes to keep with it, of which tuples come back as lists; `load_metadata` reads them
            without the arrays.

    Returns:
        the file's path.

    Raises:
        TypeError: something in the tree is no data, an array's dtype has no place in a safetensors file, or the
            metadata are not JSON-like.
        OSError: the file cannot be written; an older one is still there then.
    """
    path = Path(path)
    write_checkpoint(path, tree, metadata).close()
    return path


def write_checkpoint(
    path: Path, tree: Any, metadata: Mapping[str, Any] | None = None, *, overwrite: bool = True
) -> BinaryIO:
    """As `save_checkpoint`, but returns the open file, which others cannot delete until it is closed."""
    code, arrays = encode(tree)
    checksums = {name: _checksum(array) for name, array in arrays.items()}
    structure = msgpack.packb([code, checksums], unicode_errors="surrogatepass")
    header = header_bytes(
        arrays,
        {
            "format": FORMAT,
            "structure": base64.b64encode(structure).decode(),
            "metadata": _json(metadata or {}),
            "checksum": _ZEROS,
        },
    )
    header = header.replace(_seal(_ZEROS), _seal(hashlib.sha256(header).hexdigest()), 1)
    return write_atomically(path, file_chunks(header, arrays), overwrite=overwrite)


def load_checkpoint(
    path: str | os.PathLike, like: Any = None, *, mmap: bool = False, verify: bool = True
) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint.

    Arguments:
        like: a pytree of what is expected: arrays, or anything with a shape and a dtype (such as what
            `asgfn.eval_shape` gives), random keys, and Python values. Structure, shapes, dtypes and types of Python
            values must be those of the file, or an error names every difference; values do not count. The result has
            its classes, and where these have static fields, the fields' values. Where it holds `...`, anything is
            accepted and comes as without `like`.
            Without `like` a NamedTuple becomes a namedtuple of the same name and fields, not of the same class, and
            any other registered class (a dataclass, ...) a dict of its children.
        mmap: arrays are views of the mapped file instead of copies, see `SafetensorsReader`. Together with
            `verify=False`, elements are read from the disk only when they are used.
        verify: compare the checksum of every array, which reads them all. That of the header is always compared.

    Returns:
        the pytree, and the metadata. Arrays are asgfn arrays, weakly typed if they were (64-bit ones become 32-bit
        unless `enable_x64` is on); of dtypes that asgfn does not compute with (float8), NumPy arrays.

    Raises:
        DamagedCheckpointError: the file is truncated, altered, or something else.
        CheckpointMismatchError: it does not fit `like`; or it holds 64-bit integers that do not fit into 32 bits
            while `enable_x64` is off. Both are `CheckpointError`s.
        FileNotFoundError: there is no such file.
    """
    with SafetensorsReader(path, mmap=mmap) as reader:
        path, tensors = reader.path, reader.header.tensors
        code, checksums, metadata = _content(path, reader.header)
        if like is not None:
            problems = differences(code, like, lambda name: (tensors[name].dtype, tensors[name].shape))
            if problems:
                raise CheckpointMismatchError(f"{path} does not fit:\n" + "\n".join(f"  {text}" for text in problems))
        arrays = {name: reader.array(name) for name in tensors}
    if verify:
        _verify(path, arrays, checksums)

    def array(name: str, weak: bool) -> Any:
        return _as_asgfn(arrays[name], weak, f"{path}: {name}")

    return decode(code, ABSENT if like is None else like, array), metadata


def load_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The metadata of a checkpoint. Only the file's header is read, and checked.

    Raises:
        DamagedCheckpointError: the header is damaged or not that of a checkpoint, or the file's length is wrong.
        FileNotFoundError: there is no such file.
    """
    with SafetensorsReader(path) as reader:
        return _content(reader.path, reader.header)[2]


def verify_checkpoint(path: str | os.PathLike) -> None:
    """Checks every byte of a checkpoint against its checksums, without keeping any in memory.

    Raises:
        DamagedCheckpointError: the file is truncated, altered, or something else.
        FileNotFoundError: there is no such file.
    """
    with SafetensorsReader(path) as reader:
        _, checksums, _ = _content(reader.path, reader.header)
        for name in reader.header.tensors:
            _verify(reader.path, {name: reader.array(name)}, checksums)


def _verify(path: Path, arrays: Mapping[str, np.ndarray], checksums: Mapping[str, bytes]) -> None:
    damaged = [name for name, array in arrays.items() if _checksum(array) != checksums[name]]
    if damaged:
        names = ", ".join(damaged[:5]) + (f" and {len(damaged) - 5} more" if len(damaged) > 5 else "")
        raise DamagedCheckpointError(f"{path} is damaged: the checksums of {names} do not match")


def _content(path: Path, header: Header) -> tuple[Code, dict[str, bytes], dict[str, Any]]:
    """The structure, the arrays' checksums and the user's metadata, from a header whose checksum is right."""
    texts = header.metadata
    if texts.get("format") != FORMAT:
        raise DamagedCheckpointError(
            f"{path} is a safetensors file but not a checkpoint of this kind (format {texts.get('format')!r}, expected "
            f"{FORMAT!r}); nn_fn.checkpoints.load_file reads other files"
        )
    checksum = texts.get("checksum", "")
    zeroed = header.raw.replace(_seal(checksum), _seal(_ZEROS)) if _CHECKSUM.fullmatch(checksum) else b""
    if hashlib.sha256(zeroed).hexdigest() != checksum:
        raise DamagedCheckpointError(f"{path} is damaged: the checksum of its header does not match")
    try:
        structure = base64.b64decode(texts["structure"], validate=True)
        code, checksums = msgpack.unpackb(structure, unicode_errors="surrogatepass")
        tensors = header.tensors
        stored = [leaf[:2] for _, leaf in leaves(code) if type(leaf) is list and leaf[0] in ("array", "key")]
        if not sorted(name for _, name in stored) == sorted(checksums) == sorted(tensors):
            raise ValueError("the structure does not name each array once")
        for kind, name in stored:
            if kind == "key" and (tensors[name].dtype != np.uint32 or tensors[name].shape[-1:] != (2,)):
                raise ValueError(f"{name} is not of the type of random keys")
        metadata = json.loads(texts["metadata"])
        if type(metadata) is not dict:
            raise ValueError("the metadata are no dict")
    # a header made up with a right checksum may hold anything
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        RecursionError,
        msgpack.UnpackException,
    ) as error:
        raise DamagedCheckpointError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    return code, checksums, metadata


def _seal(checksum: str) -> bytes:
    # quotes within JSON text are escaped, so this stands in a header once
    return f'"checksum":"{checksum}"'.encode()


def _checksum(array: np.ndarray) -> bytes:
    return hashlib.sha256(elements(array)).digest()


def _as_asgfn(array: np.ndarray, weak: bool, where: str) -> Any:
    if array.dtype not in dtypes.SUPPORTED:
        return array
    dtype = dtypes.canonicalize(array.dtype)
    if dtype != array.dtype:
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        if limits and array.size and (array.min() < limits.min or array.max() > limits.max):
            raise CheckpointMismatchError(
                f"{where} holds {array.dtype} numbers that do not fit into {dtype}: load it with asgfn.enable_x64() on"
            )
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    return concrete(array, ArrayType(array.shape, array.dtype, weak))


def _json(metadata: Mapping[str, Any]) -> str:
    def check(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, part in value.items():
                if type(key) is not str:  # JSON would turn it into text
                    raise TypeError(
                        f"save_checkpoint: metadata are JSON-like, whose keys are text; got the key {key!r}"
                    )
                check(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                check(part)

    check(metadata)
    try:
        return json.dumps(dict(metadata), ensure_ascii=True)
    except TypeError as error:
        raise TypeError(f"save_checkpoint: metadata are to be JSON-like: {error}") from None
