""".ci/run on small checkouts: it fails where anything fails."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.scripts.shell import ROOT, assert_one_line_error, run_script, write_executable


@pytest.fixture
def small(ready: Path) -> Path:
    """A checkout with a fast and a slow test, and the same in the double of CUDA and in parity."""
    shutil.copytree(ROOT / '.ci', ready / '.ci')
    (ready / 'pyproject.toml').write_text('[tool.pytest.ini_options]\nmarkers = ["slow: long"]\n')
    (ready / 'test_one.py').write_text('import pytest\n\n\ndef test_it():\n    pass\n\n\n'
                                       '@pytest.mark.slow\ndef test_long():\n    pass\n')
    for folder in ('gpu_double', 'parity'):
        (ready / 'tests' / folder).mkdir(parents=True)
        shutil.copy(ready / 'test_one.py', ready / f'tests/{folder}/test_{folder}.py')
    return ready


def run_ci(root: Path) -> subprocess.CompletedProcess:
    """Run it where a browser, a compiler and Open MPI are found, so that it installs none."""
    for program in ('chromium', 'g++', 'mpirun'):
        write_executable(root / 'bin' / program, '#!/bin/bash\n')
    return run_script(root / '.ci/run', PATH=f'{root / "bin"}:{os.environ["PATH"]}')


@pytest.mark.slow
@pytest.mark.parametrize(('reason', 'with_data', 'status'), [
    ('reference data X is absent', True, 1), ('reference data X is absent', False, 0), ('no GPU', True, 0)])
def test_skipped_reference_tests_fail_where_the_data_are(small: Path, reason: str, with_data: bool,
                                                         status: int) -> None:
    (small / 'test_skip.py').write_text(f'import pytest\n\n\ndef test_it():\n    pytest.skip({reason!r})\n')
    if with_data:
        (small.parent / 'shared').mkdir()
    process = run_ci(small)
    assert process.returncode == status, process.stderr
    assert ('reference data X' in process.stderr) == bool(status)
    assert ('all passed' in process.stdout) == (not status)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'text', 'word'), [
    ('test_bad.py', 'def test_it():\n    assert 0\n', '1 failed'), ('odd.py', 'import os\n', 'F401')])
def test_a_bad_test_and_bad_style_fail(small: Path, name: str, text: str, word: str) -> None:
    (small / name).write_text(text)
    process = run_ci(small)
    assert process.returncode != 0 and word in process.stdout and 'all passed' not in process.stdout


def test_second_stack_that_cannot_be_made_is_named(small: Path) -> None:
    (small / 'scripts/setup_env.sh').write_text('exit 1')
    process = run_ci(small)
    assert_one_line_error(process, 'gpu110 environment')
    assert 'passed' not in process.stdout
