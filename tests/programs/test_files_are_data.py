"""Files from elsewhere are data: none makes the programs run or build what it says."""
from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from src.common.errors import InputError
from src.common.inputs import load_json
from src.config import load_model_config, resolve
from tests.mmpose.test_coco import content, write
from tests.programs.test_programs import ROOT

# Calls that run or build what a file says. src/weights/pth.py has an unpickler that knows tensors only.
FORBIDDEN = {'eval', 'exec', 'pickle.load', 'pickle.loads', 'pickle.Unpickler', 'marshal.loads', 'shelve.open',
             'json_tricks.load', 'json_tricks.loads', 'yaml.load', 'yaml.unsafe_load', 'joblib.load', 'torch.load'}
OURS = sorted(p for pattern in ('*.py', 'src/**/*.py', 'tools/*.py', 'configs/*.py') for p in ROOT.glob(pattern))


@pytest.mark.parametrize('path', OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_program_runs_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN, f'line {node.lineno}'
            allowed = [word.value.value for word in node.keywords if word.arg == 'allow_pickle']
            assert allowed in ([], [False]), f'line {node.lineno}'


def test_objects_of_json_tricks_stay_dicts(tmp_path: Path) -> None:
    thing = {'__instance_type__': ['pathlib', 'Path'], 'attributes': {}, '__complex__': [1, 2], '__ndarray__': [1]}
    (tmp_path / 'a.json').write_text(json.dumps(thing))
    assert load_json(tmp_path / 'a.json') == thing
    values = content()
    values['annotations'][0]['bbox'] = {'__ndarray__': [5, 5, 20, 30], 'dtype': 'float64', 'shape': [4]}
    with pytest.raises(InputError, match='annotation 7'):
        write(tmp_path, values)()


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of modules, in which trap.py leaves a mark when it is imported."""
    (tmp_path / 'trap.py').write_text(f'open({str(tmp_path / "sprung")!r}, "w")\nconfig = {{}}\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('name', ['trap', '..trap', '../trap', './trap', 'configs.trap', 'base.trap', '', 'trap.py/'])
def test_configurations_come_from_configs_or_an_explicit_path(trap: Path, name: str) -> None:
    with pytest.raises(InputError, match='no such file'):
        load_model_config(name)
    assert not (trap / 'sprung').exists()
    assert load_model_config(str(trap / 'trap.py')) == {} and (trap / 'sprung').exists()


def test_saved_settings_import_nothing(trap: Path) -> None:
    experiment, config = resolve({}, {})
    experiment['model_config'] = str(trap / 'trap.py')
    (trap / 'config.json').write_text(json.dumps({'experiment': experiment, 'config': config}))
    with pytest.raises(InputError, match=r'config\.json: refusing to execute .*trap\.py'):
        resolve({}, {}, str(trap / 'config.json'))
    assert not (trap / 'sprung').exists()
