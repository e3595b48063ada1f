"""Text: reading, tokens, windows, and the packaged novels."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asgfn.numpy as jnp
from nn_fn.data import (
    CharTokenizer,
    DataError,
    DataNotFoundError,
    TextDataset,
    austen,
    load_austen,
    load_text,
    read_lines,
    text_windows,
)
from nn_fn.data.datasets import Dataset


def test_load_text(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("\ufeffone\r\ntwo\rthree\n\nGrüße 😀".encode())
    assert load_text(path) == load_text(str(path)) == "one\ntwo\nthree\n\nGrüße 😀"
    path.write_bytes("Grüße".encode("latin-1"))
    assert load_text(path, "latin-1") == "Grüße"
    with pytest.raises(DataError, match=r"text is not text in utf-8: byte 0xfc at position 2 .*encoding='latin-1'"):
        load_text(path)
    path.write_bytes(b"")
    assert load_text(path) == ""


def test_load_text_errors(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"load_text: there is no file .*gone"):
        load_text(tmp_path / "gone")
    with pytest.raises(DataError, match="is not a file"):
        load_text(tmp_path)
    (tmp_path / "x").write_text("x")
    with pytest.raises(LookupError, match="unknown encoding"):
        load_text(tmp_path / "x", "klingon")


def test_read_lines(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("\ufeffone\r\n\r\n  \ntwo \u2028 still two\rthree\n".encode())
    assert list(read_lines(path)) == ["one", "", "  ", "two \u2028 still two", "three"]
    assert list(read_lines(path, skip_blank=True)) == ["one", "two \u2028 still two", "three"]
    path.write_bytes(b"no end")
    assert list(read_lines(path)) == ["no end"]
    path.write_bytes(b"")
    assert list(read_lines(path)) == []


def test_read_lines_errors(tmp_path):
    with pytest.raises(DataNotFoundError, match="read_lines: there is no file"):
        read_lines(tmp_path / "gone")
    path = tmp_path / "text"
    path.write_bytes(b"fine\n" * 100_000 + b"\xff\n")
    with pytest.raises(LookupError):
        read_lines(path, "klingon")
    lines = read_lines(path)
    assert next(lines) == "fine"
    with pytest.raises(DataError, match="is not text in utf-8 somewhere after line"):
        list(lines)


@settings(deadline=None, max_examples=60)
@given(text=st.text(st.characters(exclude_categories=[])), other=st.text())
def test_decode_inverts_encode(text, other):
    tokenizer = CharTokenizer.from_text(text + other)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32 and tokens.shape == (len(text),)
    assert tokenizer.decode(tokens) == text
    assert CharTokenizer.from_data(json.loads(json.dumps(tokenizer.to_data()))) == tokenizer
    # a token is a place in the vocabulary
    assert [tokenizer.characters[i] for i in tokens] == list(text)


def test_the_vocabulary():
    tokenizer = CharTokenizer.from_text("hello world")
    assert tokenizer.characters == " dehlorw"
    assert len(tokenizer) == tokenizer.vocabulary_size == 8
    assert tokenizer.encode("hello").tolist() == [3, 2, 4, 4, 5]
    # any order will do
    assert CharTokenizer("olhe").encode("hello").tolist() == [2, 3, 1, 1, 0]
    assert CharTokenizer("olhe").decode([2, 3, 1, 1, 0]) == "hello"


def test_decode_takes_arrays_and_numbers():
    tokenizer = CharTokenizer("abc")
    assert tokenizer.decode(jnp.array([2, 0, 1])) == "cab"
    assert tokenizer.decode(np.int64(1)) == tokenizer.decode(1) == "b"
    assert tokenizer.decode([]) == tokenizer.decode(np.zeros(0, np.int32)) == ""


def test_unknown_characters_and_tokens():
    tokenizer = CharTokenizer("abc")
    with pytest.raises(ValueError, match=r"character '😀' \(U\+1F600\) at position 2 is not in the vocabulary of 3"):
        tokenizer.encode("ab😀d")
    with pytest.raises(ValueError, match="character 'a'"):
        CharTokenizer("").encode("a")
    assert CharTokenizer("").encode("").tolist() == []
    for tokens in ([0, 3], [-1]):
        with pytest.raises(ValueError, match=f"expected tokens from 0 to 2, got {tokens[-1]}"):
            tokenizer.decode(tokens)
    with pytest.raises(TypeError, match="expected integers, got float64"):
        tokenizer.decode([0.5])
    with pytest.raises(ValueError, match=r"expected tokens of shape \[length\], got \[1, 2\]"):
        tokenizer.decode([[0, 1]])
    with pytest.raises(TypeError, match="text must be a string, got list"):
        tokenizer.encode(["a"])
    with pytest.raises(ValueError, match="'a' occurs more often"):
        CharTokenizer("aba")
    with pytest.raises(TypeError, match="must be a string"):
        CharTokenizer(["a", "b"])
    for data in ({}, {"type": "CharTokenizer"}, {"type": "Other", "characters": "a"}, "abc", None):
        with pytest.raises(ValueError, match="expected what to_data wrote"):
            CharTokenizer.from_data(data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tokenizer.characters = "x"


@settings(deadline=None, max_examples=100)
@given(count=st.integers(2, 60), length=st.integers(1, 20), stride=st.integers(1, 25), data=st.data())
def test_windows(count, length, stride, data):
    tokens = np.random.RandomState(count).randint(0, 1000, count)
    if count <= length:
        with pytest.raises(ValueError, match=f"need at least {length + 1} tokens, got {count}"):
            TextDataset(tokens, length, stride)
        return
    windows = TextDataset(tokens, length, stride)
    starts = list(range(0, count - length, stride))
    assert len(windows) == len(starts)
    for i, start in enumerate(starts):
        x, y = windows[i]
        assert x.tolist() == tokens[start : start + length].tolist()
        assert y.tolist() == tokens[start + 1 : start + 1 + length].tolist()
    indices = data.draw(st.lists(st.integers(-len(starts), len(starts) - 1), max_size=8))
    x, y = windows.get_batch(indices)
    assert x.shape == y.shape == (len(indices), length) and x.dtype == tokens.dtype
    for row, i in enumerate(indices):
        np.testing.assert_array_equal(x[row], windows[i][0])
        np.testing.assert_array_equal(y[row], windows[i][1])


def test_windows_are_views_and_batches_are_not(tmp_path):
    tokens = np.arange(100, dtype=np.uint16)
    windows = TextDataset(tokens, 10)
    assert isinstance(windows, Dataset)
    x, y = windows[3]
    assert np.shares_memory(x, tokens) and np.shares_memory(y, tokens)
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1
    x, y = windows.get_batch(np.array([3, 4]))
    assert not np.shares_memory(x, tokens)
    x[...] = 0
    assert tokens[3] == 3
    # ten times the tokens must not travel
    assert len(pickle.dumps(TextDataset(np.zeros(10_000, np.int32), 1000))) < 50_000
    copy = pickle.loads(pickle.dumps(TextDataset(tokens, 10, 5)))
    assert len(copy) == 18 and copy[1][0].tolist() == list(range(5, 15))
    np.save(tmp_path / "tokens.npy", tokens)
    on_disk = TextDataset(np.load(tmp_path / "tokens.npy", mmap_mode="r"), 10)
    assert on_disk[89][1].tolist() == list(range(90, 100))


def test_windows_of_a_text():
    tokenizer = CharTokenizer.from_text("abc")
    windows = text_windows("abcabc", 2, tokenizer=tokenizer, stride=2)
    assert [[part.tolist() for part in window] for window in (windows[0], windows[1])] == [
        [[0, 1], [1, 2]],
        [[2, 0], [0, 1]],
    ]
    assert len(windows) == 2
    assert len(text_windows([0, 1, 2, 0], 2)) == 2
    assert text_windows(jnp.array([0, 1, 2]), 1)[1][1].tolist() == [2]
    for arguments in (("abc", None), ([0, 1, 2], tokenizer)):
        with pytest.raises(TypeError, match="a string needs a tokenizer"):
            text_windows(arguments[0], 1, tokenizer=arguments[1])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros(5), 2), TypeError, "tokens must be integers, got float64"),
        (("abc", 2), TypeError, "tokens must be integers"),
        ((np.zeros((5, 1), int), 2), ValueError, r"shape \[n\], got \[5, 1\]"),
        ((np.zeros(5, int), 0), ValueError, "length must be an integer of at least 1, got 0"),
        ((np.zeros(5, int), 2.0), ValueError, "length must be an integer"),
        ((np.zeros(5, int), 2, 0), ValueError, "stride must be an integer of at least 1, got 0"),
        ((np.zeros(5, int), True), ValueError, "length must be an integer"),
    ],
)
def test_windows_that_cannot_be_made(arguments, error, message):
    with pytest.raises(error, match=message):
        TextDataset(*arguments)


def test_windows_out_of_range():
    windows = TextDataset(np.arange(5), 2)
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 3"):
            windows[index]
        with pytest.raises(IndexError, match=f"index {index} is out of range for 3"):
            windows.get_batch([0, index])
    with pytest.raises(TypeError):
        windows[0.5]
    with pytest.raises(TypeError):
        windows.get_batch([0.5])


def test_the_novels():
    text = load_austen()
    assert text.isascii() and len(set(text)) == 80 and "\r" not in text and "\f" not in text
    pride, emma = (text.index(title) for title in ("PRIDE AND PREJUDICE", "EMMA\n"))
    assert pride == 0 and len(text) == 684_768 + 3 + 883_028 and emma == 684_768 + 3
    assert "It is a truth universally acknowledged, that a single man in possession\nof a good fortune" in text[:200]
    assert "Emma Woodhouse, handsome, clever, and rich, with a comfortable home\nand happy" in text[emma : emma + 200]
    assert text.endswith("\nFINIS\n")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1e-9, 1 - 1e-9, 0.3333])
def test_the_parts_of_the_novels(fraction):
    whole = load_austen()
    train = load_austen("train", validation_fraction=fraction)
    validation = load_austen("validation", validation_fraction=fraction)
    assert len(train) + len(validation) == len(whole) + 3
    first = round(684_768 * fraction)
    assert validation[:first] == whole[684_768 - first : 684_768]
    assert train[: 684_768 - first] == whole[: 684_768 - first]
    second = round(883_028 * fraction)
    assert validation[first + 3 :] == whole[len(whole) - second :]
    assert train[684_768 - first + 3 :] == whole[684_771 : len(whole) - second]


def test_options_of_the_novels_out_of_range():
    with pytest.raises(ValueError, match="split must be 'train', 'validation' or None, got 'test'"):
        load_austen("test")
    for fraction in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            load_austen("train", validation_fraction=fraction)


@pytest.fixture
def uncached():
    austen._novels.cache_clear()
    yield
    austen._novels.cache_clear()


def test_damaged_and_missing_novels_are_named(monkeypatch, uncached):
    monkeypatch.setattr(austen, "SHA256", hashlib.sha256(b"other").hexdigest())
    with pytest.raises(OSError, match=r"austen\.txt\.xz is damaged.*Reinstalling"):
        load_austen()
    monkeypatch.setattr(austen, "FILE_NAME", "gone.xz")
    with pytest.raises(FileNotFoundError, match=r"gone\.xz is missing"):
        load_austen()
