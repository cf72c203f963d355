"""The double of CUDA itself: an operator goes through MindSpore's GPU plugin, and what is not computed is refused."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.common.compat import VERSION, built_for

pytestmark = pytest.mark.skipif(VERSION[:2] != (1, 10) or not built_for('GPU') or not shutil.which('g++'),
                                reason='needs mindspore-gpu 1.10 and g++')
PROGRAM = """
import mindspore as ms
ms.set_context(mode=ms.GRAPH_MODE, device_target='GPU')
x = ms.Tensor([1.0, 2.0])
print(ms.ops.{operator}()(x{arguments}).asnumpy().tolist())
"""


@pytest.fixture
def environment(double: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **double}


def run(environment: dict[str, str], operator: str, arguments: str = '') -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', PROGRAM.format(operator=operator, arguments=arguments)],
                          env=environment, capture_output=True, text=True)


def test_an_operator_runs_on_the_device_and_is_traced(environment: dict[str, str], tmp_path: Path) -> None:
    done = run({**environment, 'GPU_DOUBLE_TRACE': str(tmp_path / 'trace')}, 'Add', ', x')
    assert (done.returncode, done.stdout.strip()) == (0, '[2.0, 4.0]'), done.stderr
    [trace] = tmp_path.glob('trace.*')
    calls = dict(reversed(line.split(' ', 1)) for line in trace.read_text().splitlines())
    launches = {name: count for name, count in calls.items() if name.startswith('launch ')}
    assert [count for name, count in launches.items() if 'ElewiseArith' in name] == ['1'] and len(launches) == 1
    assert calls['call copy, device to host'] >= '1' and 'call cudaSetDevice(0)' in calls


def test_a_kernel_that_is_not_computed_ends_the_process_by_its_name(environment: dict[str, str]) -> None:
    done = run(environment, 'Erf')
    assert done.returncode == -6 and 'Erf<float>' in done.stderr, done.stderr
