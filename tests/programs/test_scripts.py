"""The shell scripts, run for real on a copy of the checkout whose programs are small stand-ins."""
from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in (ROOT / 'scripts').glob('*.sh') if path.name != 'common.sh')
LAUNCHERS = [('run_standalone_train', 'train.py'), ('run_eval', 'eval.py'), ('run_export', 'export.py')]
TOOLS = ['bash', 'basename', 'cat', 'chmod', 'cmp', 'cp', 'date', 'dirname', 'mkdir', 'sed', 'seq', 'tee']

PROGRAM = '''
import json, os, sys
print(json.dumps({'program': os.path.basename(sys.argv[0]), 'arguments': sys.argv[1:], 'folder': os.getcwd(),
                  'pid': os.getpid(), 'rank': os.environ.get('MS_NODE_ID')}))
print('said on stderr', file=sys.stderr)
if os.environ.get('STAND_IN') == 'sleep':
    import time
    time.sleep(60)
elif 'STAND_IN' in os.environ and os.environ.get('MS_NODE_ID') != '0':
    sys.exit(int(os.environ['STAND_IN']))
'''

# Stands in for every Python: knows the calls of setup_env.sh, keeps a list of them, fails where a file says so.
STAND_IN_PYTHON = '''#!/bin/bash
state={state}
case "$*" in
    *version_info*) [[ $0 =~ python3\\.([0-9]+)|/3\\.([0-9]+) ]] || true
        [[ $* == *"(3, ${{BASH_REMATCH[1]:-${{BASH_REMATCH[2]:-10}}}})"* ]] ;;
    *ensurepip*) [[ ! -e $state/no-venv ]] ;;
    --version) echo "Python of $0" ;;
    '-m venv '*) folder=${{@: -1}}; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
    '-c import cv2')
        [[ ! -e $state/no-libgl ]] || {{ echo 'ImportError: libGL.so.1: cannot open shared object file'; exit 1; }} ;;
    '-c import mindspore.dataset')
        [[ ! -e $state/no-cuda ]] || {{ echo 'ImportError: libcudart.so.11.0: cannot open shared object'; exit 1; }} ;;
    '-m pip '*)
        echo "$*" >>"$state/pip"
        [[ $* != *headless* ]] || rm "$state/no-libgl"
        [[ ! -e $state/no-network ]] ;;
esac
'''


def write_executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with a space in its name, with stand-ins for the programs."""
    root = tmp_path / 'check out'
    shutil.copytree(ROOT / 'scripts', root / 'scripts')
    for name in ('requirements.txt', 'requirements-onnx.txt', 'requirements-dev.txt'):
        shutil.copy(ROOT / name, root)
    for _, program in LAUNCHERS:
        (root / program).write_text(PROGRAM)
    return root


def run_script(path: Path, *arguments: str, folder: Path | None = None, **environment: str):
    """Runs a script with this Python in `folder`; returns the finished process with its text."""
    return subprocess.run(['bash', str(path), *arguments], cwd=folder or path.parent, capture_output=True, text=True,
                          env={**os.environ, 'PYTHON': sys.executable, **environment}, timeout=120)


def report(process: subprocess.CompletedProcess) -> dict:
    """What the stand-in program said about its call."""
    return json.loads(next(line for line in process.stdout.splitlines() if line.startswith('{')))


def assert_one_line_error(process: subprocess.CompletedProcess, *words: str) -> None:
    assert process.returncode == 1
    line, = process.stderr.splitlines()
    assert line.startswith('error: ')
    for word in words:
        assert word in line


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
    said = report(process)
    assert said['program'] == program
    assert said['arguments'] == ['--device_id', '3', '--data_root', 'my data/*', '--tag', '']
    assert said['folder'] == str(elsewhere)


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
    assert run_script(checkout / 'scripts/run_export.sh', '0', STAND_IN=str(status)).returncode == status


def test_log_has_both_streams(checkout: Path) -> None:
    process = run_script(checkout / 'scripts/run_standalone_train.sh', '0')
    log, = (checkout / 'logs').glob('run_standalone_train_*.log')
    assert f'log: {log}' in process.stdout
    assert json.loads(log.read_text().splitlines()[0]) == report(process)
    assert 'said on stderr' in log.read_text() and 'said on stderr' in process.stdout


def test_log_that_cannot_be_written(checkout: Path) -> None:
    (checkout / 'logs').write_text('a file where the folder should be')
    assert_one_line_error(run_script(checkout / 'scripts/run_eval.sh', '0'), 'logs/run_eval_')


def test_a_signal_ends_the_program_itself(checkout: Path) -> None:
    environment = {**os.environ, 'PYTHON': sys.executable, 'STAND_IN': 'sleep'}
    with subprocess.Popen(['bash', str(checkout / 'scripts/run_eval.sh')], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said = json.loads(next(line for line in process.stdout if line.startswith('{')))
        assert said['pid'] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM


def test_choice_of_python(checkout: Path) -> None:
    script = checkout / 'scripts/run_eval.sh'
    write_executable(checkout / '.venv/bin/python', f'#!/bin/bash\necho of venv\nexec "{sys.executable}" "$@"\n')
    assert 'of venv' in run_script(script, PYTHON='').stdout
    assert 'of venv' not in run_script(script).stdout
    assert_one_line_error(run_script(script, PYTHON='/no/such/python'), 'PYTHON=/no/such/python')


def only_tools(folder: Path) -> str:
    """A PATH with what the scripts need and nothing else: no Python, no mpirun."""
    folder.mkdir(exist_ok=True)
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def test_no_python_at_all(checkout: Path, tmp_path: Path) -> None:
    process = run_script(checkout / 'scripts/run_eval.sh', PYTHON='', PATH=only_tools(tmp_path / 'bin'))
    assert_one_line_error(process, 'setup_env.sh')


@pytest.mark.parametrize('arguments', [['0'], ['two'], [''], ['2', 'x'], ['2', '01']])
def test_distributed_refuses_bad_numbers(checkout: Path, arguments: list[str]) -> None:
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', *arguments)
    assert_one_line_error(process, f"'{arguments[-1]}'")


def test_distributed_without_mpirun(checkout: Path, tmp_path: Path) -> None:
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', '2', PATH=only_tools(tmp_path / 'bin'))
    assert_one_line_error(process, 'mpirun')


def test_distributed_on_gpu_calls_mpirun(checkout: Path, tmp_path: Path) -> None:
    write_executable(tmp_path / 'bin/mpirun', '#!/bin/bash\necho "devices $CUDA_VISIBLE_DEVICES"\n'
                     'printf "<%s>" "$@"\necho\nexit 5\n')
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', '3', '2', '--data_root', 'my data',
                         PATH=f'{tmp_path / "bin"}:{os.environ["PATH"]}')
    assert process.returncode == 5
    assert 'devices 2,3,4' in process.stdout
    log, = (checkout / 'logs').glob('distributed_*/all.log')
    call = f'<{sys.executable}><{checkout}/train.py><--distributed><--device><GPU><--data_root><my data>'
    assert '<-n><3>' in process.stdout and f'<--output-filename><{log.parent}>' in process.stdout
    assert call in process.stdout and call in log.read_text()


def test_distributed_on_cpu_without_msrun(checkout: Path, tmp_path: Path) -> None:
    write_executable(tmp_path / 'old/python', '#!/bin/bash\n')
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', '2', '--device', 'CPU',
                         PYTHON=str(tmp_path / 'old/python'))
    assert_one_line_error(process, 'msrun', 'MindSpore 2.3')


def test_distributed_over_several_machines(checkout: Path, tmp_path: Path) -> None:
    write_executable(tmp_path / 'bin/mpirun', '#!/bin/bash\nprintf "<%s>" "$@"\necho\n')
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', '16', HOSTFILE='my hosts',
                         PATH=f'{tmp_path / "bin"}:{os.environ["PATH"]}')
    assert process.returncode == 0
    assert '<-n><16><--hostfile><my hosts><-x><PATH>' in process.stdout
    assert '<-x><CUDA_VISIBLE_DEVICES>' in process.stdout


MINDSPORE = importlib.util.find_spec('mindspore')
needs_msrun = pytest.mark.skipif(
    MINDSPORE is None or not Path(MINDSPORE.origin).with_name('parallel').joinpath('cluster/run.py').exists(),
    reason='this MindSpore has no msrun (it came with 2.3)')


@needs_msrun
@pytest.mark.parametrize('option', [['--device', 'CPU'], ['--device=CPU']])
def test_distributed_on_cpu_starts_every_rank(checkout: Path, option: list[str]) -> None:
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', '2', '0', *option, '--tag', 'a b')
    assert process.returncode == 0, process.stderr
    logs, = (checkout / 'logs').glob('distributed_*')
    for rank in range(2):
        said = json.loads((logs / f'worker_{rank}.log').read_text().splitlines()[0])
        assert said['rank'] == str(rank)
        assert said['arguments'] == ['--distributed', *option, '--tag', 'a b']


@needs_msrun
def test_distributed_on_cpu_tells_of_a_failed_rank(checkout: Path) -> None:
    (checkout / 'train.py').write_text("import os, sys\nif os.environ.get('MS_NODE_ID') == '1':\n"
                                       "    sys.exit('error: no such file')\n")
    process = run_script(checkout / 'scripts/run_distributed_train_gpu.sh', '2', '--device', 'CPU')
    assert process.returncode == 1
    assert 'error: no such file' in process.stdout.splitlines()


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the names given run as stand-ins, all other Pythons fail; returns the state folder and the PATH."""
    monkeypatch.setenv('PYENV_ROOT', str(tmp_path / 'pyenv'))

    def make(*names: str) -> tuple[Path, str]:
        (tmp_path / 'state').mkdir(exist_ok=True)
        for name in ('python3.12', 'python3.11', 'python3.10', 'python3.9', 'python3', 'python', 'uv'):
            text = STAND_IN_PYTHON.format(state=f"'{tmp_path / 'state'}'")
            write_executable(tmp_path / 'bin' / name, text if name in names else '#!/bin/bash\nexit 127\n')
        return tmp_path / 'state', f'{tmp_path / "bin"}:{os.environ["PATH"]}'
    return make


def test_setup_takes_the_newest_python_that_runs(checkout: Path, pythons) -> None:
    state, path = pythons('python3.11', 'python3.10', 'python3')
    process = run_script(checkout / 'scripts/setup_env.sh', PATH=path)
    assert process.returncode == 0, process.stderr
    assert 'bin/python3.11' in process.stdout
    call, = (state / 'pip').read_text().splitlines()
    assert call.endswith(f'-r {checkout}/.venv/new-requirements.txt')


def test_setup_installs_only_what_changed(checkout: Path, pythons) -> None:
    state, path = pythons('python3')
    script = checkout / 'scripts/setup_env.sh'

    def calls(*arguments: str) -> list[str]:
        (state / 'pip').write_text('')
        assert run_script(script, *arguments, PATH=path).returncode == 0
        return [line.rpartition('/new-')[2] for line in (state / 'pip').read_text().splitlines()]

    assert calls('--dev') == ['requirements.txt', 'requirements-onnx.txt', 'requirements-dev.txt']
    assert calls('--dev') == calls() == []
    with (checkout / 'requirements.txt').open('a') as file:
        file.write('# changed\n')
    assert calls('--dev') == ['requirements.txt']


def test_setup_falls_back_to_headless_opencv(checkout: Path, pythons) -> None:
    state, path = pythons('python3.12')
    (state / 'no-libgl').touch()
    process = run_script(checkout / 'scripts/setup_env.sh', PATH=path)
    assert process.returncode == 0, process.stderr
    assert 'libGL.so.1' in process.stdout and 'opencv-python-headless 4.10.0.84' in process.stdout
    calls = (state / 'pip').read_text().splitlines()
    assert 'uninstall' in calls[1] and calls[2].endswith('opencv-python-headless==4.10.0.84')


def test_setup_is_repeated_after_a_failed_installation(checkout: Path, pythons) -> None:
    state, path = pythons('python3')
    (state / 'no-network').touch()
    assert_one_line_error(run_script(checkout / 'scripts/setup_env.sh', PATH=path), 'network')
    (state / 'no-network').unlink()
    assert run_script(checkout / 'scripts/setup_env.sh', PATH=path).returncode == 0
    assert len((state / 'pip').read_text().splitlines()) == 2


def test_setup_says_what_is_missing(checkout: Path, pythons) -> None:
    _, path = pythons()
    assert_one_line_error(run_script(checkout / 'scripts/setup_env.sh', PATH=path), '3.11 3.12 3.10')
    assert_one_line_error(run_script(checkout / 'scripts/setup_env.sh', '--stack', 'gpu110', PATH=path),
                          'no Python 3.9', 'pyenv install 3.9')
    state, path = pythons('python3.10')
    (state / 'no-venv').touch()
    assert_one_line_error(run_script(checkout / 'scripts/setup_env.sh', PATH=path), 'python3.10', 'venv module')
    assert_one_line_error(run_script(checkout / 'scripts/setup_env.sh', '--all', PATH=path), '--all')
    assert_one_line_error(run_script(checkout / 'scripts/setup_env.sh', '--stack', 'gpu', PATH=path), "'gpu'", 'ms200')
    assert not list(checkout.glob('.venv*'))


def test_setup_looks_for_python_in_pyenv_and_with_uv(checkout: Path, tmp_path: Path, pythons) -> None:
    state, path = pythons()
    text = STAND_IN_PYTHON.format(state=f"'{state}'")
    write_executable(tmp_path / 'pyenv/versions/3.9.18/bin/python', text)
    write_executable(tmp_path / 'of uv/python3.11', text)
    write_executable(tmp_path / 'bin/uv',
                     f'#!/bin/bash\n[[ $* != "python find 3.11" ]] || echo "{tmp_path}/of uv/python3.11"')
    for stack, python in (('gpu110', 'pyenv/versions/3.9.18/bin/python'), ('default', 'of uv/python3.11')):
        process = run_script(checkout / 'scripts/setup_env.sh', '--stack', stack, PATH=path)
        assert process.returncode == 0, process.stderr
        assert f'Python of {tmp_path}/{python}' in process.stdout


@pytest.mark.parametrize(('stack', 'package'), [
    ('default', 'mindspore-gpu==1.10.0'), ('gpu110', 'mindspore-gpu==1.10.0'), ('ms200', 'mindspore==2.0.0')])
def test_each_stack_has_its_environment_and_its_mindspore(checkout: Path, pythons, stack: str, package: str) -> None:
    _, path = pythons('python3.9', 'python3.12')
    process = run_script(checkout / 'scripts/setup_env.sh', '--dev', '--stack', stack, PATH=path)
    assert process.returncode == 0, process.stderr
    venv, = checkout.glob('.venv*')
    assert venv.name == ('.venv' if stack == 'default' else f'.venv-{stack}')
    assert f'{package}; python_version < "3.10"' in (venv / 'requirements.txt').read_text()
    assert (venv / 'requirements-dev.txt').exists()


def test_gpu110_gets_the_cuda_runtime_where_there_is_none(checkout: Path, pythons) -> None:
    state, path = pythons('python3.9')
    (state / 'no-cuda').touch()
    for stack in ('ms200', 'gpu110'):
        process = run_script(checkout / 'scripts/setup_env.sh', '--stack', stack, PATH=path)
        assert process.returncode == 0, process.stderr
        runtime = [call for call in (state / 'pip').read_text().splitlines() if 'nvidia-cuda-runtime-cu11==' in call]
        assert len(runtime) == (stack == 'gpu110')


@pytest.fixture
def ready(checkout: Path) -> Path:
    """A checkout that is already set up: its environments run this Python."""
    for stack in ('.venv', '.venv-gpu110', '.venv-ms200'):
        told = f'echo of {stack} >&2\n' if stack != '.venv' else ''
        write_executable(checkout / stack / 'bin/python', f'#!/bin/bash\n{told}exec "{sys.executable}" "$@"\n')
        for name in ('requirements.txt', 'requirements-onnx.txt', 'requirements-dev.txt'):
            text = (checkout / name).read_text()
            release = 'mindspore==2.0.0' if stack == '.venv-ms200' else 'mindspore-gpu==1.10.0'
            (checkout / stack / name).write_text(text.replace('mindspore-gpu==1.10.0', release))
    return checkout


def test_run_tests_leaves_slow_tests_to_all(ready: Path, tmp_path: Path) -> None:
    (ready / 'pyproject.toml').write_text('[tool.pytest.ini_options]\nmarkers = ["slow: long"]\n')
    (ready / 'test_two.py').write_text('import pytest\n\ndef test_fast():\n    pass\n\n\n'
                                       '@pytest.mark.slow\ndef test_long():\n    assert 0\n')
    script = ready / 'scripts/run_tests.sh'
    fast = run_script(script, '-q', folder=tmp_path)
    assert fast.returncode == 0 and '1 passed, 1 deselected' in fast.stdout
    everything = run_script(script, '--all', folder=tmp_path)
    assert everything.returncode == 1 and '1 failed, 1 passed' in everything.stdout
    for stack in ('gpu110', 'ms200'):
        fast = run_script(script, '--stack', stack, '--fast', '-q', folder=tmp_path)
        assert fast.returncode == 0 and '1 passed, 1 deselected' in fast.stdout and f'of .venv-{stack}' in fast.stderr
        everything = run_script(script, '--stack', stack, '-q', folder=tmp_path)
        assert everything.returncode == 1 and '1 failed, 1 passed' in everything.stdout
    assert_one_line_error(run_script(script, '--stack'), 'unknown stack')


def demo_programs(root: Path, average_precision: float) -> None:
    """Stand-ins that append their call to calls.txt and write what the demo's options name."""
    text = ('import json, sys\nfrom pathlib import Path\n'
            'Path("calls.txt").open("a").write(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")\n'
            'Path("demo").mkdir(exist_ok=True)\n'
            'if "--metrics_json" in sys.argv:\n'
            '    Path(sys.argv[sys.argv.index("--metrics_json") + 1])'
            f'.write_text(json.dumps({{"AP": {average_precision}}}))\n')
    (root / 'tools').mkdir()
    for name in ('train', 'eval', 'export', 'tools/make_synthetic_coco', 'tools/draw_predictions',
                 'tools/predict'):
        (root / f'{name}.py').write_text(text)


def test_demo_runs_all_stages_afresh(ready: Path, tmp_path: Path) -> None:
    demo_programs(ready, 0.5)
    for left in ('demo/old', 'checkpoints/demo/old'):
        (ready / left).mkdir(parents=True)
    (ready / 'checkpoints/mine').mkdir()
    process = run_script(ready / 'scripts/run_demo.sh', folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert 'AP with ground-truth boxes: 0.500' in process.stdout
    calls = [line.split()[0] for line in (ready / 'calls.txt').read_text().splitlines()]
    assert calls == ['make_synthetic_coco.py', 'train.py', 'eval.py', 'eval.py', 'export.py', 'draw_predictions.py',
                     'predict.py']
    assert not (ready / 'demo/old').exists() and not (ready / 'checkpoints/demo/old').exists()
    assert (ready / 'checkpoints/mine').exists()


@pytest.mark.parametrize('average_precision', [0.4999, float('nan')])
def test_demo_fails_when_nothing_was_learned(ready: Path, average_precision: float) -> None:
    demo_programs(ready, 'float("nan")' if average_precision != average_precision else average_precision)
    assert_one_line_error(run_script(ready / 'scripts/run_demo.sh'), 'below 0.50')


def test_demo_stops_at_the_first_failure(ready: Path) -> None:
    demo_programs(ready, 0.9)
    (ready / 'train.py').write_text('raise SystemExit(9)')
    process = run_script(ready / 'scripts/run_demo.sh')
    assert process.returncode == 9
    assert 'eval.py' not in (ready / 'calls.txt').read_text()


def run_ci(root: Path) -> subprocess.CompletedProcess:
    """Runs .ci/run where a browser is found, so that it installs none."""
    write_executable(root / 'bin/chromium', '#!/bin/bash\n')
    return run_script(root / '.ci/run', PATH=f'{root / "bin"}:{os.environ["PATH"]}')


def prepare_ci(root: Path, fast_test: str) -> None:
    """Leaves only .ci, one fast test with the body given and one slow test."""
    shutil.copytree(ROOT / '.ci', root / '.ci')
    for _, program in LAUNCHERS:
        (root / program).unlink()
    (root / 'pyproject.toml').write_text('[tool.pytest.ini_options]\nmarkers = ["slow: long"]\n')
    (root / 'test_one.py').write_text(f'import pytest\n\n\ndef test_it():\n    {fast_test}\n\n\n'
                                      '@pytest.mark.slow\ndef test_long():\n    pass\n')


@pytest.mark.parametrize(('reason', 'with_data', 'status'), [
    ('reference data X is absent', True, 1), ('reference data X is absent', False, 0), ('no GPU', True, 0)])
def test_ci_refuses_skipped_reference_tests(ready: Path, reason: str, with_data: bool, status: int) -> None:
    prepare_ci(ready, f'pytest.skip({reason!r})')
    if with_data:
        (ready.parent / 'shared').mkdir()
    process = run_ci(ready)
    assert process.returncode == status, process.stderr
    assert ('reference data X' in process.stderr) == bool(status)
    assert ('all passed' in process.stdout) == (not status)


@pytest.mark.parametrize(('name', 'text', 'word'), [
    ('test_bad.py', 'def test_it():\n    assert 0\n', '1 failed'), ('odd.py', 'import os\n', 'F401')])
def test_ci_fails_on_a_bad_test_and_on_bad_style(ready: Path, name: str, text: str, word: str) -> None:
    prepare_ci(ready, 'pass')
    (ready / name).write_text(text)
    process = run_ci(ready)
    assert process.returncode != 0 and word in process.stdout and 'all passed' not in process.stdout


def test_ci_says_that_the_second_stack_cannot_be_made(ready: Path) -> None:
    prepare_ci(ready, 'pass')
    (ready / 'scripts/setup_env.sh').write_text('exit 1')
    process = run_ci(ready)
    assert_one_line_error(process, 'gpu110 environment')
    assert 'passed' not in process.stdout
