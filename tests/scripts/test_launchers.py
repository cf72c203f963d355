"""The three launchers and what all scripts share, with a program that reports how it was called."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.shell import ROOT, assert_one_line_error, bare_path, run_script, write_executable

SCRIPTS = sorted(path.name for path in (ROOT / 'scripts').glob('*.sh') if path.name != 'common.sh')
LAUNCHERS = [('run_standalone_train', 'train.py'), ('run_eval', 'eval.py'), ('run_export', 'export.py')]

PROGRAM = '''
import json, os, sys
print(json.dumps({'program': os.path.basename(sys.argv[0]), 'arguments': sys.argv[1:], 'folder': os.getcwd(),
                  'pid': os.getpid()}))
print('a line on stderr', file=sys.stderr)
if os.environ.get('EXIT') == 'never':
    import time
    time.sleep(60)
sys.exit(int(os.environ.get('EXIT', 0)))
'''


@pytest.fixture(autouse=True)
def programs(checkout: Path) -> None:
    for _, program in LAUNCHERS:
        (checkout / program).write_text(PROGRAM)


def report(process: subprocess.CompletedProcess) -> dict:
    """Return what the program reported."""
    return json.loads(next(line for line in process.stdout.splitlines() if line.startswith('{')))


@pytest.mark.parametrize('path', ['.ci/run', 'scripts/common.sh', *(f'scripts/{name}' for name in SCRIPTS)])
def test_syntax(path: str) -> None:
    process = subprocess.run(['bash', '-n', str(ROOT / path)], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, '')


@pytest.mark.parametrize('name', SCRIPTS)
def test_help_shows_usage_and_changes_nothing(checkout: Path, name: str) -> None:
    before = sorted(checkout.rglob('*'))
    process = run_script(checkout / 'scripts' / name, '--help')
    assert process.returncode == 0
    assert process.stdout.startswith(f'usage: bash scripts/{name}')
    assert sorted(checkout.rglob('*')) == before
    if name in {f'{script}.sh' for script, _ in LAUNCHERS}:
        assert report(process)['arguments'] == ['--help']


@pytest.mark.parametrize(('script', 'program'), LAUNCHERS)
def test_launcher_passes_device_options_and_folder(checkout: Path, tmp_path: Path, script: str, program: str) -> None:
    elsewhere = tmp_path / 'some where'
    elsewhere.mkdir()
    process = run_script(checkout / 'scripts' / f'{script}.sh', '3', '--data_root', 'my data/*', '--tag', '',
                         folder=elsewhere)
    assert process.returncode == 0
    call = report(process)
    assert call['program'] == program
    assert call['arguments'] == ['--device_id', '3', '--data_root', 'my data/*', '--tag', '']
    assert call['folder'] == str(elsewhere)


def test_device_is_0_unless_given(checkout: Path) -> None:
    script = checkout / 'scripts/run_eval.sh'
    assert report(run_script(script))['arguments'] == ['--device_id', '0']
    assert report(run_script(script, '--boxes', 'gt'))['arguments'] == ['--device_id', '0', '--boxes', 'gt']


@pytest.mark.parametrize('device', ['gpu0', '1.5', '', ' 1', '0x1'])
def test_bad_device_is_refused(checkout: Path, device: str) -> None:
    process = run_script(checkout / 'scripts/run_eval.sh', device)
    assert_one_line_error(process, 'DEVICE_ID', f"'{device}'")
    assert process.stdout == ''
    assert not (checkout / 'logs').exists()


def test_negative_device_reaches_the_program_as_an_option(checkout: Path) -> None:
    assert report(run_script(checkout / 'scripts/run_eval.sh', '-1'))['arguments'] == ['--device_id', '0', '-1']


@pytest.mark.parametrize('status', [0, 1, 7])
def test_exit_status_is_the_programs(checkout: Path, status: int) -> None:
    assert run_script(checkout / 'scripts/run_export.sh', '0', EXIT=str(status)).returncode == status


def test_log_has_both_streams(checkout: Path) -> None:
    process = run_script(checkout / 'scripts/run_standalone_train.sh', '0')
    log, = (checkout / 'logs').glob('run_standalone_train_*.log')
    assert f'log: {log}' in process.stdout
    assert json.loads(log.read_text().splitlines()[0]) == report(process)
    assert 'a line on stderr' in log.read_text() and 'a line on stderr' in process.stdout


def test_log_that_cannot_be_written(checkout: Path) -> None:
    (checkout / 'logs').write_text('a file where the folder should be')
    assert_one_line_error(run_script(checkout / 'scripts/run_eval.sh', '0'), 'logs/run_eval_')


def test_a_signal_ends_the_program_itself(checkout: Path) -> None:
    environment = {**os.environ, 'PYTHON': sys.executable, 'EXIT': 'never'}
    with subprocess.Popen(['bash', str(checkout / 'scripts/run_eval.sh')], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        call = json.loads(next(line for line in process.stdout if line.startswith('{')))
        assert call['pid'] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


def test_choice_of_python(checkout: Path) -> None:
    script = checkout / 'scripts/run_eval.sh'
    write_executable(checkout / '.venv/bin/python', f'#!/bin/bash\necho of venv\nexec "{sys.executable}" "$@"\n')
    assert 'of venv' in run_script(script, PYTHON='').stdout
    assert 'of venv' not in run_script(script).stdout
    assert_one_line_error(run_script(script, PYTHON='/no/such/python'), 'PYTHON=/no/such/python')


def test_no_python_at_all(checkout: Path, tmp_path: Path) -> None:
    process = run_script(checkout / 'scripts/run_eval.sh', PYTHON='', PATH=bare_path(tmp_path / 'bin'))
    assert_one_line_error(process, 'setup_env.sh')
