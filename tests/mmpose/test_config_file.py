"""Config files of MMPose are read as mmcv reads them, and nothing in them is run."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.common.errors import InputError
from src.mmpose.config_file import read_config


def read(folder: Path, text: str, **bases: str) -> dict[str, Any]:
    for name, content in bases.items():
        (folder / f'{name}.py').write_text(content)
    (folder / 'file.py').write_text(text)
    return read_config(folder / 'file.py')


@pytest.mark.parametrize(('text', 'value'), [
    ("[1, -2.5, 'a' 'b', None, True, (1, ), ()]", [1, -2.5, 'ab', None, True, (1,), ()]),
    ("dict(a=1, b=dict(c=[dict(type='X')]))", {'a': 1, 'b': {'c': [{'type': 'X'}]}}),
    ("{0: 'a', 'b': {}}", {0: 'a', 'b': {}}),
    ("list(range(3)) + list(range(5, 9, 2))", [0, 1, 2, 5, 7]),
    ("[1 / 4, 2 * 17, 7 // 2, 3 - 5, [1.] * 2]", [0.25, 34, 3, -2, [1.0, 1.0]]),
    ("f'{root}/{cfg[\"size\"][0]}.json'", 'data/192.json'),
    ("cfg['size'][-1]", 256),
    ('other', (192, 'data')),
])
def test_values(tmp_path: Path, text: str, value: Any) -> None:
    names = read(tmp_path, f"root = 'data'\ncfg = dict(size=[192, 256])\nother = twin = (cfg['size'][0], root)\n"
                           f'x = {text}')
    assert names['x'] == value and type(names['x']) is type(value)
    assert list(names) == ['root', 'cfg', 'other', 'twin', 'x'] and names['twin'] == (192, 'data')


def test_bases_are_merged_key_by_key_and_lists_replaced(tmp_path: Path) -> None:
    names = read(tmp_path, '''
_base_ = ['one.py', './two.py']
model = dict(head=dict(size=2), steps=[3])
optimizer = dict(_delete_=True, type='SGD')
fresh = dict(_delete_=True, a=1)
info = {{ _base_.info.points }}
data = dict(train=dict(info={{_base_.info}}))
_deprecation_ = dict(expected='other.py')
''', one="model = dict(type='A', head=dict(size=1, kernel=1), steps=[1, 2])\nlevel = 'INFO'",
                 two="_base_ = 'three.py'\noptimizer = dict(type='Adam', lr=1)\ninfo = dict(points=[1, 2])",
                 three="optimizer = dict(betas=(0.9, 0.999), lr=3)\nepochs = 7")
    assert names == dict(
        model=dict(type='A', head=dict(size=2, kernel=1), steps=[3]), level='INFO', optimizer=dict(type='SGD'),
        epochs=7,
        # As in mmcv, the key is no instruction where the base has nothing to delete.
        fresh=dict(_delete_=True, a=1), info=[1, 2], data=dict(train=dict(info=dict(points=[1, 2]))))


@pytest.mark.parametrize(('text', 'words'), [
    ('import os', 'line 1: import os is no assignment of a name'),
    ('\n\nfor i in [1]:\n    x = i', 'line 3: for i in'),
    ('x = 1\nx += 1', r'line 2: x \+= 1 is no assignment'),
    ('x = dict(a=1)\nx["a"] = 2', r"line 2: x\['a'\] = 2 is no assignment"),
    ('x = dict(a=1)\nx.update(a=2)', r'line 2: x.update\(a=2\) is no assignment'),
    ('x = open("trap")', r"line 1: open\('trap'\) is not read: of calls only"),
    ('x = __import__("os").system("touch trap")', 'is not read'),
    ('x = [i for i in (1, 2)]', 'is not read: a config file is data'),
    ('x = dict(**{})', 'of calls only'),
    ('x = list(range(10 ** 9))', 'is not read'),
    ('x = list(range(1000000000))', 'of calls only'),
    ('x = [0] * 1000000000', 'is not read'),
    ('x = list(range(1, 2, 0))', 'must not be zero'),
    ('x = y', 'line 1: y is assigned nowhere before'),
    ('x = {}["a"]', 'has no value .KeyError'),
    ('x = {[1]: 2}', 'has no value .TypeError'),
    ('x = 1 / 0', 'has no value .ZeroDivisionError'),
    ('x = (lambda: 1)()', 'is not read'),
    ('x = f"{1:03d}"', 'has a format in a text'),
    ('x = {1, 2}', 'is not read'),
    ('x = "{{ fileDirname }}/a"', 'is a placeholder in a text'),
    ('x = {{_base_.a}}', "no 'a' in a _base_"),
    ('_base_ = "one.py"\nx = {{_base_.a.b}}', "no 'b' in a _base_"),
    ('_base_ = "one.py"\na = dict(b=1)', 'a is a dict, and none in its _base_; add _delete_=True'),
    ('_base_ = ["one.py", "two.py"]', 'two.py: a stands in another _base_'),
    ('_base_ = "absent.py"', "_base_ 'absent.py': no such file .*; keep config files where they stand"),
    ('_base_ = "loop.py"', 'the file is its own base'),
    ('x = (', 'no Python file'),
    ('x = ' + '-' * 20000 + '1', 'no Python file'),
    ('x = "\0"', 'no Python file'),
])
def test_refused_by_file_line_and_expression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str,
                                             words: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, text, one='a = 1', two='a = 2', loop='_base_ = "file.py"')
    assert str(tmp_path) in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'trap').exists()


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / 'a.yaml').write_text('a: 1')
    (tmp_path / 'folder.py').mkdir()
    for name, words in (('a.yaml', 'give a .py file'), ('b.py', 'no such file'), ('folder.py', 'no such file')):
        with pytest.raises(InputError, match=words):
            read_config(tmp_path / name)
