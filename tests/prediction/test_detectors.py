"""The detector that a user names: a file, or a published one, from a server of the test's own."""
from __future__ import annotations

import functools
import hashlib
import http.server
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction.detectors import find_detector
from src.prediction.onnx_detector import OnnxDetector
from src.prediction.published_detectors import DETECTORS
from src.weights.download import MIRROR
from src.weights.published import PUBLISHED, Published
from tests.prediction import onnx_files
from tests.prediction.onnx_files import Thing, save

PICTURE = np.zeros((96, 128, 3), np.uint8)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without words."""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    """A detector in the table, as a zip file on a server; the cache is empty."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.delenv(MIRROR, raising=False)
    (tmp_path / 'served').mkdir()
    graph = onnx_files.mmdeploy([Thing(np.array([20.0, 16, 60, 80]), 0.9, 0)], (128, 96))
    net, file = save(tmp_path / 'net.onnx', graph, (1, 3, 96, 128)), tmp_path / 'served' / 'yolox_mine.zip'
    with zipfile.ZipFile(file, 'w') as archive:
        archive.write(net, 'end2end.onnx')
    handler = functools.partial(Quiet, directory=str(tmp_path / 'served'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        detector = Published('mine', '', f'http://127.0.0.1:{server.server_port}/{file.name}', file.name,
                             hashlib.sha256(file.read_bytes()).hexdigest()[:8], 'AP 1', 'here')
        monkeypatch.setitem(DETECTORS, 'mine', detector)
        yield detector
        server.shutdown()


def test_a_name_is_downloaded_once(published: Published, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    detect = find_detector('mine', 0.3)
    assert isinstance(detect, OnnxDetector) and detect.family.name == 'YOLOX with NMS'
    np.testing.assert_allclose(detect.predict(PICTURE), [[20, 16, 40, 64, 0.9]], rtol=1e-5)
    assert capsys.readouterr().err.splitlines()[-1].endswith('SHA-256 as published')
    (tmp_path / 'served' / published.file).unlink()
    assert find_detector('mine', 0.3).family.name == 'YOLOX with NMS'
    assert find_detector('mine', 0.95).predict(PICTURE).shape == (0, 5)


def test_another_file_than_the_published_one(published: Published, tmp_path: Path) -> None:
    (tmp_path / 'served' / published.file).write_bytes(b'another')
    with pytest.raises(InputError, match=f'its SHA-256 begins with .*, the published one with {published.sha256}'):
        find_detector('mine', 0.3)


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"yolox_medium: neither a file nor .* a detector; did you mean 'yolox_m"):
        find_detector('yolox_medium', 0.3)
    with pytest.raises(InputError, match=r'qqqq: .*; ssdlite, hog are names, and those that `python tools/weights.py'):
        find_detector('qqqq', 0.3)
    with pytest.raises(InputError, match=r'absent\.onnx: no such file'):
        find_detector(str(tmp_path / 'absent.onnx'), 0.3)


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'yolox_s').write_text('no network')
    with pytest.raises(InputError, match='yolox_s: no ONNX file'):
        find_detector('yolox_s', 0.3)


def test_the_table() -> None:
    assert len(DETECTORS) == 12 and not set(DETECTORS) & {*PUBLISHED, 'ssdlite', 'hog'}
    for field in ('url', 'file'):
        values = [getattr(detector, field) for detector in DETECTORS.values()]
        assert len(set(values)) == 12
        assert not set(values) & {getattr(weights, field) for weights in PUBLISHED.values()}
    for name, detector in DETECTORS.items():
        assert name == detector.name and detector.url.startswith('https://') and detector.licence == 'Apache-2.0'
        assert detector.url.endswith(f'/{detector.file}') and Path(detector.file).suffix in ('.onnx', '.zip')
        assert re.fullmatch(r'people alone, .*|box AP 0\.\d{3}, COCO val2017, 80 classes', detector.score)
        if detector.file.endswith('.zip'):  # what onnx_detector knows it by
            assert 'yolox' in detector.file
