"""Downloads from a server of the test: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading

import numpy as np
import pytest

from nn_fn.data import DataError, DownloadError, cache_folder, download_file, load_mnist, locate
from tests.corrupted_files import gz, idx_bytes

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/hanging":
            self.wfile.write(CONTENT[:1000])
            self.wfile.flush()
            self.server.release.wait(20)
            return
        self.wfile.write(CONTENT[:-1] if self.path == "/short" else CONTENT)

    def log_message(self, *arguments):
        """Keeps the output of tests clean."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.release = [], threading.Event()
        running.address = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.release.set()
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["/file", "/unannounced", "/moved"])
def test_a_file_comes_whole(server, tmp_path, page):
    path = tmp_path / "new" / "folder" / "file.bin"
    assert download_file(server.address + page, path, md5=MD5, sha256=SHA256.upper()) == path
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    # others may read it, as far as the user's mask lets them
    mask = os.umask(0)
    os.umask(mask)
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize(
    ("page", "options", "message"),
    [
        ("/missing", {}, "Not Found"),
        ("/short", {}, f"ended after {len(CONTENT) - 1} of {len(CONTENT)} bytes"),
        ("/file", {"md5": "0" * 32}, f"the md5 of what came is {MD5}, expected {'0' * 32}"),
        ("/file", {"md5": MD5, "sha256": "1" * 64}, f"the sha256 of what came is {SHA256}, expected {'1' * 64}"),
        ("/file", {"max_bytes": 1000}, "more than 1000 bytes"),
        ("/hanging", {"timeout": 0.2}, "timed out"),
    ],
)
def test_a_failure_leaves_no_trace(server, tmp_path, page, options, message):
    path = tmp_path / "file.bin"
    path.write_bytes(b"what was there before")
    with pytest.raises(DownloadError, match=message) as info:
        download_file(server.address + page, path, **options)
    assert server.address + page in str(info.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]
    assert path.read_bytes() == b"what was there before"


def test_addresses_are_tried_in_order(server, tmp_path):
    urls = [server.address + page for page in ("/missing", "/short", "/file", "/unannounced")]
    assert download_file(urls, tmp_path / "file", md5=MD5).read_bytes() == CONTENT
    assert server.asked == ["/missing", "/short", "/file"]
    with pytest.raises(DownloadError, match=r"(?s)/missing: Not Found.*/short: the connection ended"):
        download_file(urls[:2], tmp_path / "other")


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_address[1]
    with pytest.raises(DownloadError, match="refused"):
        download_file(f"http://127.0.0.1:{port}/file", tmp_path / "file")
    assert not list(tmp_path.iterdir())
    assert issubclass(DownloadError, DataError) and issubclass(DownloadError, OSError)


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be written"):
        download_file(server.address + "/file", tmp_path / "file" / "below")
    assert server.asked == []


@pytest.mark.parametrize("urls", ["file:///etc/passwd", ["ftp://host/file"], "", []])
def test_other_addresses(tmp_path, urls):
    with pytest.raises(ValueError, match=r"expected an address|at least one address"):
        download_file(urls, tmp_path / "file")


def test_the_progress_bar_is_for_terminals_only(server, tmp_path, capsys, monkeypatch):
    download_file(server.address + "/file", tmp_path / "file")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    download_file(server.address + "/file", tmp_path / "file")
    shown = capsys.readouterr().err
    assert "100%" in shown and "file" in shown
    download_file(server.address + "/file", tmp_path / "file", progress=False)
    assert capsys.readouterr() == ("", "")


def test_the_cache_folder_is_not_made_by_asking(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "datasets" and "asgfn" in cache_folder().parts
    assert not list(tmp_path.iterdir())


def test_a_wrong_file_from_the_network_is_never_loaded(server, tmp_path, monkeypatch):
    """The way from the loader to the server: all but the address is real."""
    monkeypatch.delenv("ASGFN_DATA", raising=False)
    monkeypatch.setattr(locate, "cache_folder", lambda: tmp_path / "cache")
    real = locate.download_file
    monkeypatch.setattr(
        locate, "download_file", lambda urls, path, **options: real(server.address + "/file", path, **options)
    )
    with pytest.raises(DownloadError, match=r"the md5 of what came is .*, expected f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        load_mnist()
    images = np.zeros((2, 28, 28), np.uint8)
    folder = tmp_path / "cache" / "mnist"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gz(idx_bytes(images)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gz(idx_bytes(np.zeros(2, np.uint8))))
    assert load_mnist(verify=False)[0].shape == (2, 28, 28)
