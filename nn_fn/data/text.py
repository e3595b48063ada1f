"""Text: reading it, characters as tokens, and windows of tokens to train a language model on."""

from __future__ import annotations

import codecs
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nn_fn.data.datasets import position, positions
from nn_fn.data.errors import DataError, DataNotFoundError

OTHER_ENCODING = "Name the file's encoding, such as encoding='latin-1'"


def load_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """The content of a text file, with every kind of line end as a newline, and without a byte order mark.

    Raises:
        LookupError: for an unknown encoding.
        DataNotFoundError: when there is no such file.
        DataError: when it cannot be read, or is not text of this encoding; the message says where.
    """
    path = _text_file("load_text", path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"load_text: {path} cannot be read: {error}") from error
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        where = ""
        if isinstance(error, UnicodeDecodeError):
            where = f": byte {content[error.start]:#04x} at position {error.start} ({error.reason})"
        raise DataError(f"load_text: {path} is not text in {encoding}{where}. {OTHER_ENCODING}") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | os.PathLike[str], encoding: str = "utf-8", *, skip_blank: bool = False) -> Iterator[str]:
    """The lines of a text file, without their ends, one at a time: the file need not fit in memory.

    Lines end at `\\n`, `\\r\\n` or `\\r`. An end at the very end of the file starts no further line.

    Arguments:
        path: the file; it is opened when the first line is asked for, and closed after the last one.
        encoding: its encoding.
        skip_blank: leaves out lines of blanks only.

    Raises:
        LookupError: at once, for an unknown encoding.
        DataNotFoundError: at once, when there is no such file.
        DataError: when it cannot be read, or is not text of this encoding.
    """
    codecs.lookup(encoding)
    return _lines(_text_file("read_lines", path), encoding, skip_blank)


def _lines(path: Path, encoding: str, skip_blank: bool) -> Iterator[str]:
    count = 0
    try:
        with open(path, encoding=encoding) as file:
            for count, line in enumerate(file, 1):
                line = line.removesuffix("\n")
                if count == 1:
                    line = line.removeprefix("\ufeff")
                if not (skip_blank and not line.strip()):
                    yield line
    except UnicodeError as error:
        raise DataError(
            f"read_lines: {path} is not text in {encoding} somewhere after line {count}. {OTHER_ENCODING}"
        ) from error
    except OSError as error:
        raise DataError(f"read_lines: {path} cannot be read: {error}") from error


def _text_file(caller: str, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise DataNotFoundError(f"{caller}: there is no file {path}")
    if not path.is_file():
        raise DataError(f"{caller}: {path} is not a file")
    return path


@dataclass(frozen=True)
class CharTokenizer:
    """Characters as tokens: token i stands for the i-th character of the vocabulary.

    Attributes:
        characters: the vocabulary, every character once.
    """

    characters: str

    def __post_init__(self) -> None:
        if not isinstance(self.characters, str):
            raise TypeError(f"CharTokenizer: characters must be a string, got {type(self.characters).__name__}")
        if len(set(self.characters)) != len(self.characters):
            twice = next(c for c in self.characters if self.characters.count(c) > 1)
            raise ValueError(f"CharTokenizer: every character must occur once, but {twice!r} occurs more often")

    @classmethod
    def from_text(cls, text: str) -> CharTokenizer:
        """The tokenizer of all characters in a text, in the order of their code points."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def vocabulary_size(self) -> int:
        """The number of different tokens."""
        return len(self.characters)

    @functools.cached_property
    def _codes(self) -> np.ndarray:
        return _code_points(self.characters)

    @functools.cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self._codes)

    def encode(self, text: str) -> np.ndarray:
        """The tokens of a text: int32 of shape `[len(text)]`.

        Raises:
            ValueError: when a character is not in the vocabulary; the message says which and where.
        """
        if not isinstance(text, str):
            raise TypeError(f"CharTokenizer.encode: text must be a string, got {type(text).__name__}")
        codes = _code_points(text)
        if not self.characters:
            tokens = known = np.zeros(len(codes), bool)
        else:
            sorted_codes = self._codes[self._order]
            nearest = np.minimum(np.searchsorted(sorted_codes, codes), len(sorted_codes) - 1)
            known, tokens = sorted_codes[nearest] == codes, self._order[nearest]
        if not known.all():
            position = int(np.argmin(known))
            missing = text[position]
            raise ValueError(
                f"CharTokenizer.encode: character {missing!r} (U+{ord(missing):04X}) at position {position} is not in "
                f"the vocabulary of {len(self)} characters. Make the tokenizer from all text that it will meet"
            )
        return tokens.astype(np.int32)

    def decode(self, tokens: Any) -> str:
        """The text of tokens.

        Arguments:
            tokens: integers, as an array of shape `[length]`, a sequence, or a single one.

        Raises:
            TypeError: when they are not integers.
            ValueError: when there are several axes, or a token is not between 0 and `len(self) - 1`.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim > 1:
            raise ValueError(f"CharTokenizer.decode: expected tokens of shape [length], got {list(tokens.shape)}")
        if not tokens.size:
            return ""
        if not np.issubdtype(tokens.dtype, np.integer):
            raise TypeError(f"CharTokenizer.decode: expected integers, got {tokens.dtype}")
        if tokens.min() < 0 or tokens.max() >= len(self):
            wrong = tokens.min() if tokens.min() < 0 else tokens.max()
            raise ValueError(f"CharTokenizer.decode: expected tokens from 0 to {len(self) - 1}, got {wrong}")
        return self._codes[np.atleast_1d(tokens)].tobytes().decode("utf-32-le", "surrogatepass")

    def to_data(self) -> dict[str, Any]:
        """The tokenizer as plain data, for a checkpoint or a JSON file. `from_data` is the inverse."""
        return {"type": "CharTokenizer", "characters": self.characters}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> CharTokenizer:
        """The tokenizer that `to_data` wrote.

        Raises:
            ValueError: when the data are of something else.
        """
        if not isinstance(data, dict) or data.get("type") != "CharTokenizer" or set(data) != {"type", "characters"}:
            raise ValueError(f"CharTokenizer.from_data: expected what to_data wrote, got {data!r:.200}")
        return cls(data["characters"])


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@dataclass(frozen=True, eq=False)
class TextDataset:
    """Windows `(x, y)` of a sequence of tokens, where `y` is `x` one step later: what a language model learns from.

    Window i starts at token `i * stride`. Windows are views of the one array: they cost no memory, and are read-only.

    Attributes:
        tokens: integers of shape `[n]`. A memory-mapped array stays on disk.
        length: the number of tokens of `x` and of `y`, at least 1.
        stride: the distance of the starts of neighbouring windows, at least 1. With `stride=length`, every token is
            predicted at most once.

    Raises:
        TypeError: when `tokens` is not an array of integers.
        ValueError: when it has another number of axes, or fewer than `length + 1` tokens, or for a length or stride
            below 1.
    """

    tokens: np.ndarray
    length: int
    stride: int = 1
    _windows: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tokens = np.asarray(self.tokens)
        if not np.issubdtype(tokens.dtype, np.integer):
            raise TypeError(f"TextDataset: tokens must be integers, got {tokens.dtype}. Encode the text first")
        if tokens.ndim != 1:
            raise ValueError(f"TextDataset: tokens must have shape [n], got {list(tokens.shape)}")
        for name in ("length", "stride"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"TextDataset: {name} must be an integer of at least 1, got {value!r}")
        if len(tokens) <= self.length:
            raise ValueError(
                f"TextDataset: windows of length {self.length} need at least {self.length + 1} tokens, got {len(tokens)}"
            )
        windows = np.lib.stride_tricks.sliding_window_view(tokens, self.length + 1)[:: self.stride]
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "_windows", windows)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self._windows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """`(x, y)`, two views of shape `[length]`. Raises IndexError outside of `-len(self)` to `len(self) - 1`."""
        window = self._windows[position("TextDataset", index, len(self))]
        return window[:-1], window[1:]

    def get_batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        """`(x, y)` of shape `[batch, length]` for integer `indices` of shape `[batch]`; a copy of these windows only."""
        batch = self._windows[positions("TextDataset", indices, len(self))]
        return batch[:, :-1], batch[:, 1:]

    def __reduce__(self) -> tuple[Any, ...]:
        # the windows would be copied out to many times the size of the tokens
        return type(self), (self.tokens, self.length, self.stride)


def text_windows(text: Any, length: int, *, tokenizer: CharTokenizer | None = None, stride: int = 1) -> TextDataset:
    """The windows of a text or of tokens, as a `TextDataset`.

    Arguments:
        text: a string, which `tokenizer` encodes, or integer tokens of shape `[n]`.
        length: the number of tokens of `x` and of `y`.
        tokenizer: what encodes a string: anything with `encode`.
        stride: the distance of the starts of neighbouring windows.

    Raises:
        TypeError: for a string without a tokenizer, or tokens with one.
        ValueError: as `TextDataset` and `CharTokenizer.encode` do.
    """
    if isinstance(text, str) != (tokenizer is not None):
        raise TypeError("text_windows: a string needs a tokenizer, and tokens need none")
    return TextDataset(text if tokenizer is None else tokenizer.encode(text), length, stride)
