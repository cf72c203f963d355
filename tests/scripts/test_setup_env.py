"""setup_env.sh with real Pythons, real virtual environments and the real pip; only the packages are small."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.scripts.shell import ROOT, assert_one_line_error, run_script, write_executable, write_wrapper

STACK, VENV = ('default', '.venv') if sys.version_info >= (3, 10) else ('ms200', '.venv-ms200')
MINOR = sys.version_info[1]
NAMES = ('python3.12', 'python3.11', 'python3.10', 'python3.9', 'python3', 'python', 'uv')
NO_LIBRARY = "raise ImportError('{}: cannot open shared object file: No such file or directory')"


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """Write a package of the Python files given that pip can install."""
    info, title = f'{name}-{version}.dist-info', name.replace('_', '-')
    files = {**files, f'{info}/METADATA': f'Metadata-Version: 2.1\nName: {title}\nVersion: {version}\n',
             f'{info}/WHEEL': 'Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n'}
    record = ''.join(f'{file},,\n' for file in (*files, f'{info}/RECORD'))
    with zipfile.ZipFile(folder / f'{name}-{version}-py3-none-any.whl', 'w') as wheel:
        for file, text in {**files, f'{info}/RECORD': record}.items():
            wheel.writestr(file, text)


@pytest.fixture(scope='module')
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which pip knows a few small packages under the names of the large ones, and nothing else."""
    folder = tmp_path_factory.mktemp('packages')
    cuda = 'try:\n    import nvidia_cuda\nexcept ImportError:\n    ' + NO_LIBRARY.format('libcudart.so.11.0')
    for name, version, files in (
            ('tqdm', '1.0', {'tqdm.py': ''}), ('opencv_python', '4.0.0', {'cv2.py': ''}),
            ('opencv_python', '4.10.0.84', {'cv2.py': NO_LIBRARY.format('libGL.so.1')}),
            ('opencv_python_headless', '4.10.0.84', {'cv2.py': ''}),
            ('mindspore', '2.0.0', {'mindspore/dataset.py': ''}),
            ('mindspore_gpu', '1.10.0', {'mindspore/dataset.py': cuda}),
            ('nvidia_cuda_runtime_cu11', '11.8.89', {'nvidia_cuda.py': ''})):
        write_wheel(folder, name, version, files)
    return {'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(folder), 'PIP_CONFIG_FILE': os.devnull}


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the names given run this Python while all other Pythons and uv fail; returns the PATH."""
    monkeypatch.setenv('PYENV_ROOT', str(tmp_path / 'pyenv'))

    def make(*names: str) -> str:
        for name in NAMES:
            write_executable(tmp_path / 'bin' / name, '#!/bin/bash\nexit 127\n')
        for name in names:
            write_wrapper(tmp_path / 'bin' / name)
        return f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    return make


def setup(checkout: Path, *arguments: str, stack: str = STACK, **environment: str) -> subprocess.CompletedProcess:
    return run_script(checkout / 'scripts/setup_env.sh', '--stack', stack, *arguments, **environment)


def installed(checkout: Path, venv: str = VENV) -> set[str]:
    """Return the names and versions of the packages in an environment."""
    lines = subprocess.run([str(checkout / venv / 'bin/python'), '-m', 'pip', 'freeze'], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return set(lines)


@pytest.fixture(scope='module')
def environment(packages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose environment setup_env.sh has made and filled, its output in setup.txt."""
    root = tmp_path_factory.mktemp('made')
    shutil.copytree(ROOT / 'scripts', root / 'scripts')
    (root / 'requirements.txt').write_text('opencv-python==4.0.0\n')
    for name in ('requirements-onnx.txt', 'requirements-dev.txt'):
        (root / name).write_text('tqdm==1.0\n')
    for name in NAMES:  # the newest names are on PATH but don't run
        write_executable(root / 'bin' / name, '#!/bin/bash\nexit 127\n')
    write_wrapper(root / 'bin/python3')
    process = setup(root, PATH=f'{root / "bin"}:{os.environ["PATH"]}', PYENV_ROOT=str(root), **packages)
    assert process.returncode == 0, process.stderr
    (root / 'setup.txt').write_text(process.stdout)
    return root


@pytest.fixture
def made(environment: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    shutil.copytree(environment, tmp_path / 'made', symlinks=True)
    return tmp_path / 'made'


@pytest.mark.slow
def test_environment_is_made_with_the_first_python_that_runs(environment: Path) -> None:
    assert f'making {VENV} with Python 3.{MINOR}' in (environment / 'setup.txt').read_text()
    assert installed(environment) == {'opencv-python==4.0.0'}


@pytest.mark.slow
def test_only_what_changed_is_installed(made: Path, packages: dict[str, str]) -> None:
    assert 'installing' not in setup(made, **packages).stdout
    process = setup(made, '--dev', **packages)
    assert 'installing requirements-dev.txt' in process.stdout and 'requirements.txt' not in process.stdout
    assert installed(made) == {'opencv-python==4.0.0', 'tqdm==1.0'}


@pytest.mark.slow
def test_a_failed_installation_is_repeated(made: Path, packages: dict[str, str]) -> None:
    (made / 'requirements.txt').write_text('opencv-python==4.0.0\nnobody-has-this==1.0\n')
    for _ in range(2):
        process = setup(made, **packages)
        assert process.returncode == 1 and process.stderr.splitlines()[-1].startswith('error: pip could not install')
    (made / 'requirements.txt').write_text('opencv-python==4.0.0\ntqdm==1.0\n')
    assert setup(made, **packages).returncode == 0 and 'tqdm==1.0' in installed(made)


@pytest.mark.slow
def test_headless_opencv_where_a_library_is_missing(made: Path, packages: dict[str, str]) -> None:
    (made / 'requirements.txt').write_text('opencv-python==4.10.0.84\n')
    process = setup(made, **packages)
    assert process.returncode == 0, process.stderr
    assert 'libGL.so.1' in process.stdout and installed(made) == {'opencv-python-headless==4.10.0.84'}


def runs(python: Path | str | None) -> bool:
    return bool(python) and subprocess.run([python, '-c', 'import ensurepip'], capture_output=True).returncode == 0


PYTHON39 = next(filter(runs, (*Path.home().glob('.pyenv/versions/3.9.*/bin/python'), shutil.which('python3.9'))), None)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON39 is None, reason='no Python 3.9')
@pytest.mark.parametrize(('stack', 'packages_of_stack'), [
    ('gpu110', {'mindspore-gpu==1.10.0', 'nvidia-cuda-runtime-cu11==11.8.89'}), ('ms200', {'mindspore==2.0.0'})])
def test_each_stack_has_its_mindspore(checkout: Path, packages: dict[str, str], only, tmp_path: Path, stack: str,
                                      packages_of_stack: set[str]) -> None:
    path = only()
    write_wrapper(tmp_path / 'bin/python3.9', str(PYTHON39))
    lines = (checkout / 'requirements.txt').read_text().splitlines()
    (checkout / 'requirements.txt').write_text('\n'.join(
        [line for line in lines if line.startswith('mindspore')] + ['opencv-python==4.0.0\n']))
    process = setup(checkout, stack=stack, PATH=path, **packages)
    assert process.returncode == 0, process.stderr
    assert installed(checkout, f'.venv-{stack}') == packages_of_stack | {'opencv-python==4.0.0'}


def test_what_is_missing_is_named(checkout: Path, only) -> None:
    path = only()
    assert_one_line_error(setup(checkout, stack='default', PATH=path), '3.11 3.12 3.10')
    assert_one_line_error(setup(checkout, stack='gpu110', PATH=path), 'no Python 3.9', 'pyenv install 3.9')
    assert_one_line_error(setup(checkout, '--all', PATH=path), '--all')
    assert_one_line_error(setup(checkout, stack='gpu', PATH=path), "'gpu'", 'ms200')
    script = checkout / 'scripts/setup_env.sh'
    assert_one_line_error(run_script(script, '--dev', '--stack', PATH=path), '--stack needs a name', 'ms200')
    assert not list(checkout.glob('.venv*'))


@pytest.mark.parametrize('link', [False, True])
def test_a_folder_of_the_users_is_refused(checkout: Path, only, link: bool) -> None:
    folder = checkout / ('mine' if link else VENV)
    folder.mkdir()
    (folder / 'mine.txt').write_text('')
    if link:
        (checkout / VENV).symlink_to(folder)
    process = setup(checkout, PATH=only('python3'))
    assert_one_line_error(process, f'{checkout}/{VENV}: not a virtual environment', 'move')
    assert [path.name for path in (checkout / VENV).iterdir()] == ['mine.txt']


@pytest.mark.parametrize('place', ['bin/python3', f'pyenv/versions/3.{MINOR}.1/bin/python', 'of uv/python'])
def test_python_without_venv_is_named_wherever_it_is(checkout: Path, tmp_path: Path, only, place: str) -> None:
    path = only()
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken/ensurepip.py').write_text('raise ImportError')
    write_executable(tmp_path / place, f'#!/bin/bash\nPYTHONPATH="{tmp_path}/broken" exec "{sys.executable}" "$@"\n')
    if 'uv' in place:
        write_executable(tmp_path / 'bin/uv',
                         f'#!/bin/bash\n[[ $* != "python find 3.{MINOR}" ]] || echo "{tmp_path / place}"')
    name = 'python3' if place.startswith('bin') else str(tmp_path / place)
    assert_one_line_error(setup(checkout, PATH=path), f'{name}: has no venv module')
