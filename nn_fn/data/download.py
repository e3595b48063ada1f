"""Downloads: into the cache folder, whole or not at all, checked by checksum."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nn_fn.data.errors import DataError, DownloadError

BLOCK = 1 << 18


def cache_folder() -> Path:
    """The folder in which downloaded data sets are kept, by the custom of the operating system. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("asgfn")) / "datasets"


def download_file(
    urls: str | Sequence[str],
    path: str | os.PathLike[str],
    *,
    md5: str | None = None,
    sha256: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    max_bytes: int = 2**32,
) -> Path:
    """Downloads a file. `path` either becomes the whole, checked file, or stays as it was.

    Arguments:
        urls: one address (`http` or `https`) or several that hold the same file: they are tried in order.
        path: where the file goes; folders on the way are made. An existing file is replaced.
        md5, sha256: the expected checksum, as hexadecimal digits; `None` to expect nothing.
        progress: shows a progress bar on the standard error stream when that is a terminal.
        timeout: seconds without any data after which an address is given up.
        max_bytes: the largest file that is accepted, in bytes.

    Returns:
        `path`.

    Raises:
        ValueError: for an address of another scheme, or no address at all.
        DownloadError: when no address gives the whole file with the expected checksum, or it cannot be written. The
            message says for each address why.
    """
    path = Path(path)
    urls = [urls] if isinstance(urls, str) else list(urls)
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"download_file: expected an address that starts with http:// or https://, got {url!r}")
    if not urls:
        raise ValueError("download_file: expected at least one address, got none")
    expected = {name: digits.lower() for name, digits in (("md5", md5), ("sha256", sha256)) if digits is not None}
    # in the same folder, since only a rename within one file system is atomic
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reasons = []
        for url in urls:
            try:
                _fetch(url, part, path.name, expected, progress, timeout, max_bytes)
            except DataError as error:
                reasons.append(f"{url}: {error.args[0]}")
            except (
                urllib.error.URLError,
                http.client.HTTPException,
                ssl.SSLError,
                TimeoutError,
                ConnectionError,
            ) as error:
                reasons.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
            else:
                os.replace(part, path)
                return path
    except OSError as error:
        raise DownloadError(f"download_file: {path} cannot be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    raise DownloadError(f"download_file: {path.name} could not be fetched\n  " + "\n  ".join(reasons))


def _fetch(
    url: str, part: Path, name: str, expected: dict[str, str], progress: bool, timeout: float, max_bytes: int
) -> None:
    """Writes what an address gives to `part`, and checks it."""
    sums = {kind: hashlib.new(kind, usedforsecurity=False) for kind in expected}
    request = urllib.request.Request(url, headers={"User-Agent": "asgfn"})
    with urllib.request.urlopen(request, timeout=timeout) as response, open(part, "wb") as file:
        announced = response.headers.get("Content-Length")
        total = int(announced) if announced is not None and announced.isdecimal() else None
        received = 0
        with _bar(name, total, progress) as bar:
            while block := response.read(BLOCK):
                received += len(block)
                if received > max_bytes:
                    raise DataError(f"the file has more than {max_bytes} bytes")
                file.write(block)
                for running in sums.values():
                    running.update(block)
                bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and received != total:
        raise DataError(f"the connection ended after {received} of {total} bytes")
    for kind, running in sums.items():
        if running.hexdigest() != expected[kind]:
            raise DataError(f"the {kind} of what came is {running.hexdigest()}, expected {expected[kind]}")


def _bar(name: str, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    # None shows the bar on a terminal only
    return tqdm(
        desc=name, total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=None if progress else True
    )
