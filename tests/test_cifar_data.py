"""CIFAR-10 and CIFAR-100: both official forms, damaged and forged archives, and pickles that are not data."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import tracemalloc

import numpy as np
import pytest

from nn_fn.data import DataError, DataNotFoundError, DownloadError, cifar, load_cifar10, load_cifar100, locate
from nn_fn.data.pickled import load_plain_pickle
from nn_fn.data.tar import tar_members
from tests.corrupted_files import flipped, gz, some_bits, truncated

COUNT = 3  # images of each file


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.delenv("ASGFN_DATA", raising=False)
    monkeypatch.setattr(locate, "cache_folder", lambda: tmp_path / "cache")

    def refuse(urls, path, **options):
        raise DownloadError("download_file: no network in tests")

    monkeypatch.setattr(locate, "download_file", refuse)


def python2_string(content: bytes) -> bytes:
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + len(content).to_bytes(4, "little") + content


def python2_array(array: np.ndarray, fortran: bool = False) -> bytes:
    rows, columns = (b"M" + n.to_bytes(2, "little") for n in array.shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01"
        + rows
        + columns
        + b"\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x88" if fortran else b"\x89")
        + python2_string(array.tobytes(order="F" if fortran else "C"))
        + b"tb"
    )


def python2_pickle(batch: dict[str, object], fortran: bool = False) -> bytes:
    """What Python 2 wrote with protocol 2, as the official files have it."""
    parts = [b"\x80\x02}q\x01("]
    for key, value in batch.items():
        parts.append(python2_string(key.encode()))
        if isinstance(value, np.ndarray):
            parts.append(python2_array(value, fortran))
        elif isinstance(value, str):
            parts.append(python2_string(value.encode()))
        else:
            items = [b"K" + bytes([x]) if isinstance(x, int) else python2_string(x.encode()) for x in value]
            parts.append(b"](" + b"".join(items) + b"e")
    return b"".join(parts) + b"u."


def tar(members: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        folder = tarfile.TarInfo(next(iter(members)).split("/")[0])
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Made:
    """A small data set in both of its official forms.

    Few different pixels make small archives; damage is as visible as in noise.
    """

    def __init__(self, hundred: bool, seed: int = 0):
        random = np.random.RandomState(seed)
        self.source = cifar.CIFAR100 if hundred else cifar.CIFAR10
        self.members: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        names = ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
        for name in names:
            blocks = random.randint(0, 256, (COUNT, 3, 4, 4)).astype(np.uint8)
            pixels = blocks.repeat(8, axis=2).repeat(8, axis=3)
            pixels[:, :, 0, 0] = random.randint(0, 256, (COUNT, 3))
            labels = {kind: random.randint(0, classes, COUNT) for kind, classes in self.source.labels}
            self.members[name] = (pixels.reshape(COUNT, 3072), labels)
        self.folder = {"binary": "cifar-100-binary", "python": "cifar-100-python"}
        if not hundred:
            self.folder = {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}
        self.stem = "cifar-100" if hundred else "cifar-10"
        self.load = load_cifar100 if hundred else load_cifar10

    def contents(self, form: str, pickled=python2_pickle) -> dict[str, bytes]:
        result = {f"{self.folder[form]}/readme.html": b"<html>"}
        for name, (pixels, labels) in self.members.items():
            if form == "binary":
                columns = [labels[kind].astype(np.uint8)[:, None] for kind, _ in self.source.labels]
                result[f"{self.folder[form]}/{name}.bin"] = np.hstack([*columns, pixels]).tobytes()
            else:
                lists = {kind: [int(x) for x in values] for kind, values in labels.items()}
                files = [f"{name}_{i}.png" for i in range(COUNT)]
                batch = {"batch_label": name, **lists, "data": pixels, "filenames": files}
                result[f"{self.folder[form]}/{name}"] = pickled(batch)
        return result

    def expected(self, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        parts = [part for name, part in self.members.items() if name.startswith("test") == (split == "test")]
        pixels = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
        return pixels, {kind: np.concatenate([labels[kind] for _, labels in parts]) for kind, _ in self.source.labels}

    def write(self, folder, form: str, content: bytes | None = None):
        path = folder / f"{self.stem}-{form}.tar.gz"
        path.write_bytes(gz(tar(self.contents(form))) if content is None else content)
        return path


@pytest.mark.parametrize("form", ["binary", "python"])
def test_cifar10_values_and_layouts(tmp_path, form):
    made = Made(hundred=False)
    made.write(tmp_path, form)
    for split in ("train", "test"):
        pixels, labels = made.expected(split)
        images, classes = load_cifar10(split, root=tmp_path, verify=False, scale=False)
        assert images.dtype == np.uint8 and classes.dtype == np.int32
        np.testing.assert_array_equal(images, pixels)
        np.testing.assert_array_equal(classes, labels["labels"])
        images[...], classes[...] = 0, 0
    scaled, _ = load_cifar10("test", root=tmp_path, verify=False)
    np.testing.assert_array_equal(scaled, pixels.astype(np.float32) / np.float32(255))
    last, _ = load_cifar10("test", root=tmp_path, verify=False, scale=False, channel_axis=-1)
    np.testing.assert_array_equal(last, pixels.transpose(0, 2, 3, 1))
    assert last.flags.c_contiguous
    flat, _ = load_cifar10("test", root=tmp_path, verify=False, scale=False, channel_axis=-1, flatten=True)
    np.testing.assert_array_equal(flat, last.reshape(COUNT, -1))
    flat, _ = load_cifar10("test", root=tmp_path, verify=False, scale=False, flatten=True)
    np.testing.assert_array_equal(flat, pixels.reshape(COUNT, -1))


@pytest.mark.parametrize("form", ["binary", "python"])
def test_cifar100_has_fine_and_coarse_labels(tmp_path, form):
    made = Made(hundred=True)
    made.write(tmp_path, form)
    for split in ("train", "test"):
        pixels, labels = made.expected(split)
        for kind in ("fine", "coarse"):
            images, classes = load_cifar100(split, labels=kind, root=tmp_path, verify=False, scale=False)
            np.testing.assert_array_equal(images, pixels)
            np.testing.assert_array_equal(classes, labels[f"{kind}_labels"])


@pytest.mark.parametrize("fortran", [False, True])
def test_the_pickles_of_these_tests_are_pickles(fortran):
    batch = {"labels": [1, 2], "data": np.arange(6144, dtype=np.uint8).reshape(2, 3072), "filenames": ["a", "b" * 300]}
    content = python2_pickle(batch, fortran)
    real = pickle.loads(content, encoding="bytes")
    ours = load_plain_pickle(content, "file")
    assert list(ours) == list(real) == [b"labels", b"data", b"filenames"]
    np.testing.assert_array_equal(ours[b"data"], batch["data"])
    np.testing.assert_array_equal(real[b"data"], batch["data"])
    assert ours[b"filenames"] == real[b"filenames"] and ours[b"labels"] == [1, 2]


@pytest.mark.parametrize("protocol", [3, 4])
def test_archives_written_anew_by_python3(tmp_path, protocol):
    made = Made(hundred=False)
    made.write(tmp_path, "python", gz(tar(made.contents("python", lambda batch: pickle.dumps(batch, protocol)))))
    images, _ = load_cifar10(root=tmp_path, verify=False, scale=False)
    np.testing.assert_array_equal(images, made.expected("train")[0])


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_of_every_dialect(format, tmp_path):
    contents = {"folder/a": b"", "folder/b": b"x" * 511, "folder/c": b"y" * 512, "folder/d": bytes(513)}
    members = tar_members(tar(contents, format), tmp_path)
    assert {name: bytes(view) for name, view in members.items()} == contents


def test_long_tar_names():
    name = "a" * 90 + "/" + "b" * 90
    assert list(tar_members(tar({name: b"x"}, tarfile.USTAR_FORMAT), "file")) == [name]


def test_options_out_of_range(tmp_path):
    Made(hundred=False).write(tmp_path, "binary")
    with pytest.raises(ValueError, match="load_cifar10: split must be 'train' or 'test', got None"):
        load_cifar10(None)
    with pytest.raises(ValueError, match="labels must be 'fine' or 'coarse', got 'both'"):
        load_cifar100(labels="both")
    with pytest.raises(ValueError, match="channel_axis must be 1 or -1, got None"):
        load_cifar10(root=tmp_path, verify=False, channel_axis=None)


def test_where_archives_are_found(tmp_path, monkeypatch):
    with pytest.raises(DataNotFoundError, match=r"cifar-10-binary.tar.gz or cifar-10-python.tar.gz"):
        load_cifar10(download=False)
    with pytest.raises(DownloadError, match="no network in tests"):
        load_cifar100()
    for folder, name in (("cache/cifar-10", None), ("named", "ASGFN_DATA"), ("named/cifar-10", "ASGFN_DATA")):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        made = Made(hundred=False, seed=len(folder))
        made.write(tmp_path / folder, "binary")
        if name:
            monkeypatch.setenv(name, str(tmp_path / "named"))
        np.testing.assert_array_equal(load_cifar10(verify=False, scale=False)[0], made.expected("train")[0])


@pytest.mark.parametrize("hundred", [False, True])
@pytest.mark.parametrize("form", ["binary", "python"])
def test_checksums(tmp_path, monkeypatch, hundred, form):
    made = Made(hundred)
    path = made.write(tmp_path, form)
    got = hashlib.md5(path.read_bytes()).hexdigest()
    official = next(archive.md5 for archive in made.source.archives if archive.name == path.name)
    with pytest.raises(DataError, match=f"MD5 is {got}, expected {official}.*verify=False"):
        made.load(root=tmp_path)
    archives = tuple(dataclasses.replace(a, md5=got if a.name == path.name else a.md5) for a in made.source.archives)
    name = "CIFAR100" if hundred else "CIFAR10"
    monkeypatch.setattr(cifar, name, dataclasses.replace(made.source, archives=archives))
    assert len(made.load("test", root=tmp_path)[0]) == COUNT


@pytest.mark.parametrize("hundred", [False, True])
@pytest.mark.parametrize("form", ["binary", "python"])
def test_damaged_archives(tmp_path, hundred, form):
    made = Made(hundred)
    path = made.write(tmp_path, form)
    whole = path.read_bytes()
    pixels, labels = made.expected("test")
    kind = "fine_labels" if hundred else "labels"
    bits = {*range(80), *some_bits(whole, 150, seed=hundred), *range(8 * len(whole) - 72, 8 * len(whole))}
    equal = errors = 0
    for damaged in [*(d for _, d in flipped(whole, bits)), *truncated(whole, 40), whole + b"\0", whole + whole]:
        path.write_bytes(damaged)
        try:
            images, classes = made.load("test", root=tmp_path, verify=False, scale=False)
        except DataError as error:
            assert path.name in str(error)
            errors += 1
        else:
            equal += 1
            np.testing.assert_array_equal(images, pixels)
            np.testing.assert_array_equal(classes, labels[kind])
    # 49 bits of the header say nothing of the data, seven may fill the last byte, and a repetition may be told in two ways
    assert errors > 2 * equal


def test_damaged_tar_headers_behind_a_right_crc(tmp_path):
    made = Made(hundred=True)
    whole = tar(made.contents("binary"))
    pixels, labels = made.expected("test")
    # the folder, and the read me with its content, come before the header of the training images
    for _, damaged in flipped(whole, [*range(8 * 512, 8 * 1024, 11), *range(8 * 1536, 8 * 2048, 7)]):
        made.write(tmp_path, "binary", gzip.compress(damaged, compresslevel=1))
        try:
            images, classes = load_cifar100("test", root=tmp_path, verify=False, scale=False)
        except DataError:
            continue
        np.testing.assert_array_equal(images, pixels)
        np.testing.assert_array_equal(classes, labels["fine_labels"])


def with_header(content: bytes, position: int, offset: int, field: bytes) -> bytes:
    """A tar archive with a forged field and a right checksum."""
    header = bytearray(content[position : position + 512])
    header[offset : offset + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:position] + bytes(header) + content[position + 512 :]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (b"77777777777\0", "claims 8589934591 bytes"),
        (b"\xff" * 12, "no octal size"),  # a negative number in base 256
        (b"\x80" + b"\x7f" * 11, "no octal size"),
        (b"-0000000001\0", "no octal size"),
        (b"\0" * 12, "no octal size"),
        (b"00000000001\0", "damaged|no octal|ends early"),
    ],
)
def test_forged_member_sizes(field, message):
    content = tar({"folder/a": b"x" * 600, "folder/b": b"y"})
    with pytest.raises(DataError, match=message):
        tar_members(with_header(content, 512, 124, field), "file")


def test_forged_tar_archives():
    content = tar({"folder/a": b"x" * 600, "folder/b": b"y"})
    for part in truncated(content[: 512 * 6], 100):
        with pytest.raises(DataError):
            tar_members(part, "file")
    with pytest.raises(DataError, match="follow the end"):
        tar_members(content + b"x", "file")
    with pytest.raises(DataError, match="two members of name 'folder/a'"):
        tar_members(with_header(content, 512 * 4, 0, b"folder/a"), "file")


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 + 1, 2 * 3073 - 1])
def test_binary_files_of_a_wrong_size(tmp_path, size):
    made = Made(hundred=False)
    contents = made.contents("binary")
    contents["cifar-10-batches-bin/test_batch.bin"] = bytes(size)
    made.write(tmp_path, "binary", gz(tar(contents)))
    with pytest.raises(DataError, match=r"test_batch\.bin: expected records of 3073 bytes"):
        load_cifar10("test", root=tmp_path, verify=False)
    assert len(load_cifar10("train", root=tmp_path, verify=False)[0]) == 5 * COUNT


def test_labels_out_of_range(tmp_path):
    made = Made(hundred=False)
    contents = made.contents("binary")
    contents["cifar-10-batches-bin/test_batch.bin"] = bytes([10]) + bytes(3072)
    made.write(tmp_path, "binary", gz(tar(contents)))
    with pytest.raises(DataError, match="expected labels from 0 to 9, got 10"):
        load_cifar10("test", root=tmp_path, verify=False)
    made = Made(hundred=True)
    contents["cifar-100-binary/test.bin"] = bytes([20, 99]) + bytes(3072)
    made.write(tmp_path, "binary", gz(tar(contents)))
    with pytest.raises(DataError, match="expected coarse_labels from 0 to 19, got 20"):
        load_cifar100("test", root=tmp_path, verify=False)


def test_a_missing_member(tmp_path):
    made = Made(hundred=False)
    contents = made.contents("python")
    del contents["cifar-10-batches-py/data_batch_3"]
    made.write(tmp_path, "python", gz(tar(contents)))
    with pytest.raises(DataError, match="no member 'cifar-10-batches-py/data_batch_3'"):
        load_cifar10(root=tmp_path, verify=False)


def test_a_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "LARGEST_CONTENT", 1_000_000)
    made = Made(hundred=True)
    made.write(tmp_path, "binary", gz(tar(made.contents("binary")) + bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpack to more than the expected 1000000 bytes"):
            load_cifar100(root=tmp_path, verify=False)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


DATA = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": DATA}, "no entry 'labels'"),
        ({"labels": [1, 2]}, "no entry 'data'"),
        ({"labels": [1], "data": DATA}, "2 images, but 1 labels"),
        ({"labels": [1, "2"], "data": DATA}, "list of small integers"),
        ({"labels": "12", "data": DATA}, "list of small integers"),
        ({"labels": [1, 200], "data": DATA}, "from 0 to 9, got 200"),
        ({"labels": [1, 2], "data": DATA[:, 1:]}, r"shape \(2, 3071\)"),
        ({"labels": [1, 2], "data": [1, 2]}, "got list"),
        ({"labels": [], "data": DATA[:0]}, r"shape \(0, 3072\)"),
    ],
)
def test_pickled_batches_that_do_not_fit(tmp_path, batch, message):
    made = Made(hundred=False)
    contents = made.contents("python")
    contents["cifar-10-batches-py/test_batch"] = python2_pickle(batch)
    made.write(tmp_path, "python", gz(tar(contents)))
    with pytest.raises(DataError, match=message):
        load_cifar10("test", root=tmp_path, verify=False)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


class WithState:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((pickle.dumps(Harmful(), protocol), "refers to|instruction") for protocol in range(6)),
        *((pickle.dumps({"data": Harmful()}, protocol), "refers to|instruction") for protocol in range(6)),
        (pickle.dumps(WithState(), 2), "refers to|instruction"),
        (pickle.dumps(np.array([{}], object), 4), "dtype 'O8'"),
        (pickle.dumps(np.zeros(3), 4), "only uint8"),
        (pickle.dumps(np.zeros(3, "u1"), 2), "_codecs.encode"),
        (pickle.dumps({1, 2}, 4), "instruction EMPTY_SET"),
        (pickle.dumps({(1, 2): 3}, 4), "key of type tuple"),
        (pickle.dumps([(1, 2)], 4), "something else than plain data"),
        (pickle.dumps(1.5, 4), "instruction BINFLOAT"),
        (pickle.dumps([1]) + b"x", "does not end"),
        (b"\x80\x02K\x01K\x02.", "does not end"),
        (b"\x80\x02.", "does not end"),
        (b"\x80\x02(K\x01.", "does not end"),
        (b"\x80\x02cnumpy\ndtype\n.", "something else than plain data"),
        (b"\x80\x02cos\nsystem\n.", "refers to 'os.system'"),
        (b"\x80\x02K\x01a.", "not there"),
        (b"\x80\x02K\x01K\x02a.", "a int where a list is needed"),
        (b"\x80\x02t.", "did not open"),
        (b"\x80\x02}(K\x01u.", "key without a value"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02", "damaged"),
        (b"", "damaged"),
    ],
)
def test_pickles_that_are_not_plain_data(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_plain_pickle(content, "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",  # bytes of a forged length
        b"\x80\x02T\xff\xff\xff\x7fx.",
        b"\x80\x02T\xff\xff\xff\xffx.",
        b"\x80\x02(" + b"(" * 100_000 + b".",
        b"\x80\x02]" + b"]a" * 10,
        b"\x80\x04\x95" + b"\xff" * 8 + b".",
        b"I" + b"9" * 100_000 + b"\n.",
        python2_pickle({"data": DATA[:1, :100]}).replace(b"M\x01\x00M", b"J\xff\xff\xff\x7fM"),
        python2_pickle({"data": DATA[:1, :100]}).replace(b"M\x01\x00M", b"J\xff\xff\xff\xffM"),
    ],
)
def test_forged_pickles_take_no_memory(content):
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            load_plain_pickle(content, "file")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_forged_memo_index_takes_no_memory():
    assert load_plain_pickle(b"\x80\x02]r\xff\xff\xff\xff.", "file") == []


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(is_plain(x) for pair in value.items() for x in pair)
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bytes, str, int, np.ndarray))


def test_damaged_pickles_give_plain_data_or_an_error():
    random = np.random.RandomState(0)
    batch = {"labels": [3, 4], "data": DATA[:, :40], "filenames": ["a.png", "b.png"]}
    contents = [python2_pickle(batch), pickle.dumps({**batch, "more": {"x": [True, None, -5]}}, 4)]
    errors = 0
    for content in contents:
        damages = [damaged for _, damaged in flipped(content, range(8 * len(content)))]
        for _ in range(500):
            damaged = bytearray(content)
            for position in random.randint(0, len(content), 3):
                damaged[position] = random.randint(0, 256)
            damages.append(bytes(damaged))
        for damaged in [*damages, *truncated(content, 200)]:
            try:
                assert is_plain(load_plain_pickle(damaged, "file"))
            except DataError:
                errors += 1
    assert errors > 1000
