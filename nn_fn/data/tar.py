"""Members of a tar archive in memory.

`tarfile` of the Python releases before July 2025 never returns from a forged member of negative size
(CVE-2025-8194). The archives of data sets use only the plain part of the format, so that little is needed here.
"""

from __future__ import annotations

from pathlib import Path

from nn_fn.data.errors import DataError

BLOCK = 512
EMPTY_BLOCK = bytes(BLOCK)
REGULAR = (b"0", b"\0")


def tar_members(content: bytes, path: Path) -> dict[str, memoryview]:
    """The regular files of an archive, by name, as views of `content` (POSIX ustar; names of up to 255 bytes).

    Folders and other kinds of members are passed over.

    Raises:
        DataError: when a header is damaged or forged, a name occurs twice, or the archive ends early or goes on after
            its end.
    """
    view = memoryview(content)
    members: dict[str, memoryview] = {}
    position = 0
    while True:
        header = content[position : position + BLOCK]
        if len(header) < BLOCK:
            raise DataError(f"{path}: the tar archive ends early")
        if header == EMPTY_BLOCK:
            break
        name, size, kind = _header(header, position, path)
        position += BLOCK
        if size > len(content) - position:
            raise DataError(
                f"{path}: member {name!r} claims {size} bytes, but the archive has {len(content) - position} left"
            )
        if kind in REGULAR:
            if name in members:
                raise DataError(f"{path}: the archive has two members of name {name!r}")
            members[name] = view[position : position + size]
        position += -(-size // BLOCK) * BLOCK
    if content[position:].strip(b"\0"):
        raise DataError(f"{path}: unexpected bytes follow the end of the tar archive")
    return members


def _header(header: bytes, position: int, path: Path) -> tuple[str, int, bytes]:
    """Name, size and kind of the member whose header this is."""
    # the sum is taken with its own field counted as blanks
    total = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    if _octal(header[148:156], "checksum", position, path) != total:
        raise DataError(f"{path}: the tar header at byte {position} is damaged: its checksum disagrees")
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    # only POSIX ustar has the prefix; GNU tar keeps other things there, behind another version field
    if prefix and header[257:265] == b"ustar\x0000":
        name = prefix + b"/" + name
    size = _octal(header[124:136], "size", position, path)
    return name.decode("utf-8", "backslashreplace").removeprefix("./"), size, header[156:157]


def _octal(field: bytes, what: str, position: int, path: Path) -> int:
    digits = field.strip(b" \0")
    # int() would also take signs, blanks and underscores
    if not digits or digits.strip(b"01234567"):
        raise DataError(f"{path}: the tar header at byte {position} has no octal {what}: {field!r}")
    return int(digits, 8)
