"""Published weights from a server of the test's own, which has whatever faults a test wants; from folders; or not."""
from __future__ import annotations

import hashlib
import http.server
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.config import load_model_config
from src.weights.download import MIRROR, fetch, locate
from src.weights.published import (
    COURSES,
    COURSES_FILES,
    DRIVE,
    MMPOSE,
    OFFICIAL,
    PADDLE,
    PADDLE_FILES,
    PUBLISHED,
    Published,
    cached,
    find_published,
    weights_folder,
)

CONTENT = np.random.default_rng(0).bytes(300_000)
HALF = 100_000
CONFIG = 'litehrnet_18_coco_256x192'
FILES = {OFFICIAL: DRIVE, PADDLE: PADDLE_FILES, COURSES: COURSES_FILES}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content` at every path but /missing/, with `server.fault`, and notes requests."""

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get('Range')
        server.requests.append((self.path, asked))
        time.sleep(server.delay)
        body, status, headers = server.content, 200, {'Content-Type': server.content_type}
        if self.path.startswith('/missing/'):
            return self.send_error(404)
        if asked and server.fault != 'no range':
            start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1])
            if start >= len(body):
                status, headers['Content-Range'], body = 416, f'bytes */{len(body)}', b''
            else:
                start = 7 if server.fault == 'other range' else start
                status, headers['Content-Range'] = 206, f'bytes {start}-{len(body) - 1}/{len(body)}'
                body = body[start:]
        self.send_response(status)
        if server.fault != 'no length':
            headers['Content-Length'] = str(len(body))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:HALF] if server.fault == 'breaks off' else body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no mirror, no proxy."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.delenv(MIRROR, raising=False)
    return tmp_path / 'cache' / 'litehrnet' / 'weights'


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
        running.content, running.content_type, running.fault, running.delay = CONTENT, 'application/x-test', None, 0
        running.requests = []
        running.url = f'http://127.0.0.1:{running.server_address[1]}'
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.shutdown()


def weights_at(url: str, digest: str | None = None) -> Published:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8] if digest is None else digest
    return Published(f'mine_{CONFIG}', CONFIG, f'{url}/net.pth', 'net.pth', digest, 'AP 1', 'here')


@pytest.fixture
def weights(server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Weights that the server has, in the table."""
    entry = weights_at(server.url)
    monkeypatch.setitem(PUBLISHED, entry.name, entry)
    return entry


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != '.lock')


def test_the_table() -> None:
    files = Counter(weights.file for weights in PUBLISHED.values())
    assert len(PUBLISHED) == len({weights.url for weights in PUBLISHED.values()}) == 36 and set(files.values()) == {1}
    assert Counter(name.partition('_')[0] for name in PUBLISHED) == dict(mmpose=7, official=10, paddle=9, mindspore=10)
    for name, weights in PUBLISHED.items():
        assert name == weights.name and name.endswith(f'_{weights.model_config}')
        assert weights.file != f'{weights.model_config}.ckpt'  # else a training's own would be taken for it
        height, width = map(int, re.search(r'_(\d+)x(\d+)$', name).groups())
        assert tuple(load_model_config(weights.model_config)['data']['image_size']) == (width, height)
        if weights.source == COURSES:
            assert weights.score.startswith('no score published') and weights.licence.startswith('no licence published')
        else:
            assert re.match(r'(AP|PCKh@0\.5|PCK@0\.2) 0\.\d{3}, ', weights.score) and weights.licence == 'Apache-2.0'
        if weights.source == MMPOSE:
            assert re.fullmatch('[0-9a-f]{8}', weights.sha256) and f'-{weights.sha256}_' in weights.url
        else:
            assert weights.url.startswith(FILES[weights.source]) and weights.sha256 == ''


def test_files_of_the_same_name_in_two_folders() -> None:
    plain, enhanced = (PUBLISHED[f'paddle_{kind}tinypose_256x192'] for kind in ('', 'enhance_'))
    assert (plain.url, plain.file) == (f'{PADDLE_FILES}tinypose_256x192.pdparams', 'tinypose_256x192.pdparams')
    assert enhanced.url == f'{PADDLE_FILES}tinypose_enhance/tinypose_256x192.pdparams'
    assert enhanced.file == 'tinypose_enhance_256x192.pdparams' and enhanced.model_config == plain.model_config


def test_a_name_is_downloaded_once(server, weights: Published, cache: Path, capsys: pytest.CaptureFixture) -> None:
    path = locate(weights.name)
    assert path == cached(weights) == cache / 'net.pth' and path.read_bytes() == CONTENT
    assert locate(weights.name) == path
    assert server.requests == [('/net.pth', None)] and names(cache) == ['net.pth']
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f'{weights.name}: downloading {weights.url}'
    assert lines[-1] == f'{weights.name}: {path}, 0.3 MB, SHA-256 as published'


@pytest.mark.parametrize(('fault', 'asked'), [(None, ['bytes=100000-']), ('no range', ['bytes=100000-']),
                                              ('other range', ['bytes=100000-', None])])
def test_half_a_download_goes_on(server, weights: Published, cache: Path, fault: str | None, asked: list) -> None:
    server.fault = 'breaks off'
    with pytest.raises(InputError, match=r'net\.pth: .*run the command again, it goes on from there'):
        fetch(weights)
    assert names(cache) == ['.net.pth.part'] and (cache / '.net.pth.part').read_bytes() == CONTENT[:HALF]
    server.fault = fault
    server.requests.clear()
    assert fetch(weights).read_bytes() == CONTENT
    assert [header for _, header in server.requests] == asked and names(cache) == ['net.pth']


@pytest.mark.parametrize(('left', 'requests'), [(CONTENT, 1), (CONTENT + b'x', 2)], ids=['whole', 'too long'])
def test_a_download_with_nothing_left_to_bring(server, weights: Published, cache: Path, left: bytes,
                                               requests: int) -> None:
    cache.mkdir(parents=True)
    (cache / '.net.pth.part').write_bytes(left)
    assert fetch(weights).read_bytes() == CONTENT
    assert len(server.requests) == requests and names(cache) == ['net.pth']


def test_a_server_that_does_not_say_the_length(server, weights: Published) -> None:
    server.fault = 'no length'
    assert fetch(weights).read_bytes() == CONTENT


def test_another_checksum(server, cache: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    with pytest.raises(InputError, match=rf'net\.pth: its SHA-256 begins with {digest}, the published one with '
                                         r'deadbeef; removed; by hand: .*net\.pth') as caught:
        fetch(weights_at(server.url, 'deadbeef'))
    assert names(cache) == [] and '\n' not in str(caught.value)


def test_without_a_published_checksum(server, capsys: pytest.CaptureFixture) -> None:
    assert fetch(weights_at(server.url, '')).read_bytes() == CONTENT
    assert capsys.readouterr().err.endswith('0.3 MB, not checked (no SHA-256 of it is published)\n')


@pytest.mark.parametrize('content_type', ['text/html; charset=utf-8', 'application/octet-stream'])
def test_a_web_page_in_place_of_the_file(server, cache: Path, content_type: str) -> None:
    server.content, server.content_type = b'\n<!DOCTYPE html><html><head>Virus scan warning', content_type
    with pytest.raises(InputError, match=r'net\.pth: .*an HTML page .*Google Drive.*by hand: save it as .*net\.pth'):
        fetch(weights_at(server.url, ''))
    assert names(cache) == []


def test_a_web_page_leaves_the_half_that_came(server, weights: Published, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / '.net.pth.part').write_bytes(CONTENT[:HALF])
    server.content_type, server.fault = 'text/html', 'no range'
    with pytest.raises(InputError, match='an HTML page'):
        fetch(weights)
    assert (cache / '.net.pth.part').read_bytes() == CONTENT[:HALF]


def test_no_network(cache: Path) -> None:
    with socket.create_server(('127.0.0.1', 0)) as once:
        url = f'http://127.0.0.1:{once.getsockname()[1]}'
    with pytest.raises(InputError, match=rf'net\.pth: no connection \(.*refused\); by hand: save it as {cache}/net\.pth'
                                         f', or under that name in a folder that {MIRROR} names'):
        fetch(weights_at(url))
    assert names(cache) == []


@pytest.mark.parametrize(('url', 'words'), [
    ('http://', 'no connection'), ('http://a b', 'no connection'), ('http://\u00fc\u00fc\ud800', 'no connection'),
    ('ftp://127.0.0.1', 'no http:// or https:// address'), ('file:///etc', 'no http:// or https:// address')])
def test_what_is_no_address(url: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fetch(weights_at('http://127.0.0.1:9'), url)


def test_a_server_without_the_file(server) -> None:
    with pytest.raises(InputError, match=r'/missing/net\.pth: the server says 404 Not Found; by hand: save it as'):
        fetch(weights_at(f'{server.url}/missing'))


def test_a_mirror_at_a_url(server, weights: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = weights_at('http://127.0.0.1:9')
    with pytest.raises(InputError, match=r'404 Not Found; by hand: save http://127\.0\.0\.1:9/net\.pth as'):
        fetch(elsewhere, f'{server.url}/missing/')
    monkeypatch.setenv(MIRROR, f'{server.url}/mirror/')
    assert fetch(elsewhere).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ['/missing/net.pth', '/mirror/net.pth']


def test_a_mirror_in_a_folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_at('http://127.0.0.1:9')
    monkeypatch.setenv(MIRROR, str(tmp_path / 'usb'))
    with pytest.raises(InputError, match=r'usb/net\.pth: the mirror has no such file; by hand: save http://12.*pth as'):
        fetch(weights)
    (tmp_path / 'usb').mkdir()
    (tmp_path / 'usb' / 'net.pth').write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r'usb/net\.pth: its SHA-256 begins with'):
        fetch(weights)
    assert names(cache) == [] and (tmp_path / 'usb' / 'net.pth').is_file()
    (tmp_path / 'usb' / 'net.pth').write_bytes(CONTENT)
    assert fetch(weights).read_bytes() == CONTENT and names(cache) == ['net.pth']


def test_a_file_put_there_by_hand(server, weights: Published, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / 'net.pth').write_bytes(CONTENT)
    assert locate(weights.name) == cache / 'net.pth'
    (cache / 'net.pth').write_bytes(b'<html>')
    with pytest.raises(InputError, match=r'net\.pth: an HTML page .*; remove it and run the command again'):
        locate(weights.name)
    (cache / 'net.pth').write_bytes(CONTENT[:HALF])
    with pytest.raises(InputError, match=r'net\.pth: its SHA-256 begins with .*; remove it and run the command again'):
        locate(weights.name)
    assert server.requests == []


def test_two_at_once_download_once(server, weights: Published) -> None:
    server.delay = 0.3
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch(weights))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cached(weights)] * 3 and len(server.requests) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason='root writes everywhere')
def test_a_cache_that_cannot_be_written(weights: Published, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r'net\.pth: cannot be written'):
        fetch(weights)


def test_a_file_in_the_place_of_the_cache(weights: Published, tmp_path: Path) -> None:
    (tmp_path / 'cache').write_text('')
    with pytest.raises(InputError, match=r'net\.pth: cannot be written'):
        fetch(weights)


def test_what_a_user_may_mean(server, weights: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ('mmpose_litehrnet_18_coco_256x129', 'nonsense'):
        with pytest.raises(InputError, match=f'{word}: neither a file nor the name of published weights; '
                                             r'(did you mean .*256x192.\? )?`python tools/weights.py list`'):
            locate(word)
    for path in ('absent.ckpt', 'folder/absent'):  # whoever reads it says that it is absent
        assert locate(path) == Path(path) and find_published(path) is None
    Path(weights.name).write_bytes(b'a file of that name')
    assert locate(weights.name) == Path(weights.name) and find_published(weights.name) is None
    Path('net.pth').write_bytes(b'a file of the published name')
    assert locate('net.pth') == Path('net.pth') and find_published('net.pth') == weights
    assert server.requests == [] and not weights_folder().exists()
