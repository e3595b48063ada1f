"""Checkpoints: a pytree of arrays in one safetensors file.

The arrays are named by their paths (``['params']['0']['weight']``); the file's metadata holds a checksum of every array and
whatever the user adds. Files are written to a temporary name, synced, and renamed: there is never half a checkpoint.
"""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn.errors import AsgError
from asgfn.tree_util import keystr, tree_flatten_with_path, tree_unflatten

FORMAT = "asgfn-checkpoint-1"


class CheckpointError(AsgError, ValueError):
    """A checkpoint is damaged, or does not fit what it is loaded into."""


def save_checkpoint(path: str | os.PathLike, tree: Any, metadata: dict[str, Any] | None = None) -> Path:
    """Writes a pytree of arrays (parameters, optimiser state, step, keys, ...) to a file, atomically.

    Arguments:
        metadata: JSON-like data to keep with it.

    Returns:
        the file's path.
    """
    from safetensors.numpy import save

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        keystr(p) or "value": np.ascontiguousarray(np.asarray(leaf)) for p, leaf in tree_flatten_with_path(tree)[0]
    }
    checksums = {name: zlib.crc32(a.tobytes()) for name, a in arrays.items()}
    header = {"format": FORMAT, "checksums": json.dumps(checksums), "metadata": json.dumps(metadata or {})}
    data = save(arrays, metadata=header)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def load_checkpoint(path: str | os.PathLike, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint into the structure of `like`.

    Returns:
        the pytree, and the metadata.

    Raises:
        CheckpointError: the file is damaged or from something else, or its arrays do not have the paths, shapes and dtypes of
            `like`; every difference is named.
        FileNotFoundError: there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with safe_open(str(path), framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        if header.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is a safetensors file but not a checkpoint of this kind (format {header.get('format')!r}, expected {FORMAT!r})"
            )
        checksums = json.loads(header["checksums"])
        metadata = json.loads(header["metadata"])
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {error}") from None
    damaged = [n for n, a in arrays.items() if checksums.get(n) != zlib.crc32(np.ascontiguousarray(a).tobytes())]
    if damaged:
        raise CheckpointError(f"{path} is damaged: the checksums of {', '.join(damaged[:5])} do not match")
    flat, structure = tree_flatten_with_path(like)
    problems, leaves = [], []
    wanted = set()
    for p, leaf in flat:
        name = keystr(p) or "value"
        wanted.add(name)
        found = arrays.get(name)
        expected = np.asarray(leaf)
        if found is None:
            problems.append(f"  {name}: missing")
        elif found.shape != expected.shape or found.dtype != expected.dtype:
            problems.append(
                f"  {name}: {found.dtype}{list(found.shape)} in the file, {expected.dtype}{list(expected.shape)} expected"
            )
        else:
            leaves.append(jnp.asarray(found))
    problems += [f"  {name}: in the file only" for name in arrays if name not in wanted]
    if problems:
        raise CheckpointError(f"{path} does not fit:\n" + "\n".join(problems))
    return tree_unflatten(structure, leaves), metadata
