"""run_tests.sh: which tests run in which environment."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.shell import assert_one_line_error, run_script, write_executable


@pytest.fixture
def script(ready: Path) -> Path:
    """The script of a checkout with a fast test, which shows the environment, and a slow test, which fails."""
    for stack in ('.venv', '.venv-gpu110', '.venv-ms200'):
        wrapper = ready / stack / 'bin/python'
        write_executable(wrapper, wrapper.read_text().replace('exec', f'STACK={stack} exec'))
    (ready / 'pyproject.toml').write_text('[tool.pytest.ini_options]\nmarkers = ["slow: long"]\n')
    (ready / 'test_two.py').write_text(
        'import os\nimport pytest\n\n\ndef test_fast():\n    print("of", os.environ["STACK"])\n\n\n'
        '@pytest.mark.slow\ndef test_long():\n    assert 0\n')
    return ready / 'scripts/run_tests.sh'


def test_slow_tests_run_with_all(script: Path, tmp_path: Path) -> None:
    fast = run_script(script, '-q', folder=tmp_path)
    assert fast.returncode == 0 and '1 passed, 1 deselected' in fast.stdout
    everything = run_script(script, '--all', '-q', folder=tmp_path)
    assert everything.returncode == 1 and '1 failed, 1 passed' in everything.stdout


def test_other_stacks_run_all_unless_fast(script: Path, tmp_path: Path) -> None:
    fast = run_script(script, '--stack', 'gpu110', '--fast', '-q', '-s', folder=tmp_path)
    assert fast.returncode == 0 and '1 passed, 1 deselected' in fast.stdout and 'of .venv-gpu110\n' in fast.stdout
    everything = run_script(script, '--stack', 'gpu110', '-q', folder=tmp_path)
    assert everything.returncode == 1 and '1 failed, 1 passed' in everything.stdout


def test_options_come_in_any_order(script: Path, tmp_path: Path) -> None:
    fast = run_script(script, '--fast', '--stack', 'gpu110', '-q', '-s', folder=tmp_path)
    assert fast.returncode == 0 and '1 passed, 1 deselected' in fast.stdout and 'of .venv-gpu110\n' in fast.stdout


def test_unknown_or_missing_stack(script: Path) -> None:
    assert_one_line_error(run_script(script, '--stack', 'gpu'), "'gpu'")
    for words in (['--stack'], ['--fast', '--stack']):
        assert_one_line_error(run_script(script, *words), '--stack needs a name', 'gpu110')
