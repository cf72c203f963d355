"""tools/weights.py as a user runs it."""
from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.prediction.published_detectors import DETECTORS
from src.weights.download import MIRROR
from src.weights.published import PUBLISHED, Published, cached
from tools.weights import main

ROOT = Path(__file__).resolve().parents[2]
CONTENT = b'any bytes'


@pytest.fixture(autouse=True)
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of published weights that are in the table; the cache is empty."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv(MIRROR, raising=False)
    config = 'litehrnet_18_coco_256x192'
    monkeypatch.setitem(PUBLISHED, f'mine_{config}', Published(
        f'mine_{config}', config, 'http://127.0.0.1:9/a.pth', 'a.pth', hashlib.sha256(CONTENT).hexdigest()[:8],
        'AP 0.1, here', 'https://example.org/mine', 'MIT'))
    (tmp_path / 'usb').mkdir()
    (tmp_path / 'usb' / 'a.pth').write_bytes(CONTENT)
    return tmp_path / 'usb'


def test_list_get_and_path(mirror: Path, capsys: pytest.CaptureFixture) -> None:
    name = 'mine_litehrnet_18_coco_256x192'
    file = cached(PUBLISHED[name])
    assert main(['path', name]) == 1
    printed = capsys.readouterr()
    assert printed.out == f'{file}\n'
    assert f'get {name}`' in printed.err and 'http://127.0.0.1:9/a.pth' in printed.err
    assert main(['get', name, '--weights_mirror', str(mirror)]) == 0
    assert capsys.readouterr().out == f'{file}\n' and file.read_bytes() == CONTENT
    assert main(['path', name]) == 0
    assert capsys.readouterr() == (f'{file}\n', '')
    assert main(['list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith('  ')] == [*PUBLISHED, *DETECTORS]
    assert [line.split() for line in lines if 'downloaded' in line] == [[name, 'AP', '0.1,', 'here', 'downloaded']]
    assert 'https://github.com/RangiLyu/nanodet (Apache-2.0); scores as published there, not measured here' in lines
    assert 'https://example.org/mine (MIT); scores as published there, not measured here' in lines


def test_a_detector(mirror: Path, capsys: pytest.CaptureFixture) -> None:
    (mirror / 'yolox_s.onnx').write_bytes(CONTENT)
    assert main(['path', 'yolox_s']) == 1
    assert main(['get', 'yolox_s', '--weights_mirror', str(mirror)]) == 0
    file = cached(DETECTORS['yolox_s'])
    assert file.read_bytes() == CONTENT and capsys.readouterr().out == f'{file}\n{file}\n'


def test_an_unknown_name_among_others_gets_nothing(mirror: Path) -> None:
    with pytest.raises(InputError, match=r"mine_litehrnet_18_coco: .*did you mean 'mine_litehrnet_18_coco_256x192'"):
        main(['get', 'mine_litehrnet_18_coco_256x192', 'mine_litehrnet_18_coco', '--weights_mirror', str(mirror)])
    assert not cached(PUBLISHED['mine_litehrnet_18_coco_256x192']).exists()
    with pytest.raises(InputError, match='official: neither a file nor'):
        main(['path', 'official'])


def test_an_error_is_one_line(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, 'tools/weights.py', 'get', 'official_litehrnet_18_coco_256x192',
                             '--weights_mirror', str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ''
    [line] = result.stderr.splitlines()
    assert line.startswith(f'error: {tmp_path}/official_litehrnet_18_coco_256x192.pth: the mirror has no such file; by '
                           'hand: save https://drive.google.com/uc?export=download&id=1Zew')
