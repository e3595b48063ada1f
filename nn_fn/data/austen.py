"""Two novels by Jane Austen: real text that travels with the code."""

from __future__ import annotations

import functools
import hashlib
import lzma
from importlib import resources

FILE_NAME = "austen.txt.xz"
SHA256 = "43b3025ee71f50843bed16e3339b2fe6f7c9e501589e7b0a126d65182008f58e"
# stands between the novels in the file, and occurs in neither
SEPARATOR = "\f"
# and this stands between them in what is returned
GAP = "\n\n\n"


def load_austen(split: str | None = None, *, validation_fraction: float = 0.1) -> str:
    """*Pride and Prejudice* and *Emma*: 1.6 million characters of English, in ASCII, 80 different ones.

    Needs neither the network nor the file system: the text is part of the package. Lines and blank lines are those of
    the edition. Emphasis is marked by underscores, as in `_not_`.

    Arguments:
        split: `"train"` for the beginning of each novel; `"validation"` for the rest of each, which is contiguous and
            was not in the other part; `None` for both novels as a whole.
        validation_fraction: the share of the characters of each novel in the validation part, strictly between 0 and 1.

    Returns:
        The text, in which the two novels stand one after the other.

    Raises:
        ValueError: for an unknown `split`, or a `validation_fraction` that is out of range.
        OSError: when the file in the installation is missing or damaged.

    Source: Project Gutenberg; in the public domain. See AUSTEN_ATTRIBUTION.md.
    """
    if split not in (None, "train", "validation"):
        raise ValueError(f"load_austen: split must be 'train', 'validation' or None, got {split!r}")
    if not 0 < validation_fraction < 1:
        raise ValueError(
            f"load_austen: validation_fraction must lie strictly between 0 and 1, got {validation_fraction!r}"
        )
    novels = _novels()
    if split is None:
        return GAP.join(novels)
    starts = [len(novel) - round(len(novel) * validation_fraction) for novel in novels]
    if split == "train":
        return GAP.join(novel[:start] for novel, start in zip(novels, starts, strict=True))
    return GAP.join(novel[start:] for novel, start in zip(novels, starts, strict=True))


@functools.cache
def _novels() -> tuple[str, ...]:
    """The novels of the packaged file, checked against its checksum."""
    file = resources.files(__package__) / FILE_NAME
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"load_austen: {file} is missing. Reinstalling asgfn brings it back.") from None
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != SHA256:
        raise OSError(
            f"load_austen: {file} is damaged: its SHA-256 is {checksum}, expected {SHA256}. "
            "Reinstalling asgfn brings back the original."
        )
    return tuple(lzma.decompress(content).decode("ascii").split(SEPARATOR))
