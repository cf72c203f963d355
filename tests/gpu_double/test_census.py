"""Every node of the graphs for training, evaluation and export has a GPU kernel in 1.10.0, 2.0.0 and 2.8.0.

Each release's own plugin says so: see tests/gpu_double/census.py.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Callable

import pytest

from tests.gpu_double.census import KINDS, RELEASES, Kernel, census, environment, library_folder, read_kernels
from tests.gpu_double.test_double import pytestmark  # noqa: F401

Census = Callable[..., 'tuple[set[Kernel], set[str], str]']
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ('2.0.0', '2.8.0')]


@pytest.fixture(scope='module')
def censuses() -> dict[str, Census]:
    """The censuses of the releases that were asked for."""
    return {}


@pytest.fixture
def take(request: pytest.FixtureRequest, release: str, censuses: dict[str, Census], double: dict[str, str],
         tmp_path: Path) -> Iterator[Census]:
    """`census` of a release: kinds of graphs to what it returns."""
    if library_folder(RELEASES[release]) is None:
        stack = {'2.0.0': '--stack ms200', '2.8.0': ''}.get(release, '--stack gpu110')
        pytest.skip(f'MindSpore {release} is not in {RELEASES[release].environment}: bash scripts/setup_env.sh {stack}')
    if release not in censuses:
        folder = request.getfixturevalue('tmp_path_factory').mktemp('census')
        built = double if release == '1.10.0' else environment(RELEASES[release], folder / 'double')
        censuses[release] = partial(census, RELEASES[release], built)
    yield partial(censuses[release], tmp_path / 'graphs')


def types(kernels: set[Kernel], primitive: str) -> set[str]:
    """The types of the first inputs of a primitive's kernels."""
    return {kernel.inputs[0][0] for kernel in kernels if kernel.primitive == primitive}


def check(kernels: set[Kernel], without: set[str], output: str, *kinds: str) -> None:
    """Assert that all graphs were compiled, with a kernel of the GPU for each node."""
    assert [line for line in output.splitlines() if line] == [f'compiled {kind}' for kind in kinds], output[-3000:]
    assert not without and {kernel.device for kernel in kernels} == {'GPU'}
    assert all(kernel.outputs for kernel in kernels)


@pytest.mark.parametrize('release', ['1.10.0'])
def test_inference_and_a_step(take: Census, release: str) -> None:
    kernels, without, output = take('eval', 'O0')
    check(kernels, without, output, 'eval', 'O0')
    for primitive in ('Conv2D', 'Conv2DBackpropFilter', 'Conv2DBackpropInput', 'BatchNormGrad', 'AdamWeightDecay'):
        assert types(kernels, primitive) == {'Float32'}
    assert Kernel('Conv2D', (('Float32', 4), ('Float32', 4)), (('Float32', 4),), 'GPU') in kernels


@pytest.mark.slow
@pytest.mark.parametrize('release', RELEASES)
def test_all_graphs(take: Census, release: str) -> None:
    kernels, without, output = take(*KINDS)
    check(kernels, without, output, *KINDS)
    assert types(kernels, 'Conv2DBackpropFilter') == types(kernels, 'BatchNormGrad') == {'Float16', 'Float32'}
    print(f'{release}: {len(kernels)} kernels of {len({kernel.primitive for kernel in kernels})} primitives')


@pytest.mark.parametrize('release', ['1.10.0', *OTHERS])
def test_what_has_no_kernel_is_seen(take: Census, release: str) -> None:
    """A product of integers, which 1.10 refuses and the others leave to the CPU."""
    kernels, _, output = take('int32')
    if release == '1.10.0':
        assert not kernels and 'Select GPU operator[MatMul] fail! Unsupported data type!' in output
    else:
        assert [(kernel.primitive, kernel.device) for kernel in kernels] == [('MatMul', 'CPU')]


@pytest.mark.parametrize('release', ['1.10.0', *OTHERS])
def test_what_is_refused_is_seen(take: Census, release: str) -> None:
    """Distances in float16, for which 1.10 has no GPU kernel at all, the others none of that type anywhere."""
    _, _, output = take('float16')
    assert 'Cdist' in output and 'exit status' in output and 'compiled' not in output


@pytest.mark.parametrize('release', ['1.10.0', *OTHERS])
def test_what_is_bound_to_the_cpu_is_seen(take: Census, release: str) -> None:
    kernels, _, output = take('bound')
    assert 'compiled bound' in output
    assert [(kernel.primitive, kernel.device) for kernel in kernels] == [('Mul', 'CPU')]


def test_nodes_without_kernel_are_listed() -> None:
    found = read_kernels('''
  %0(a) = MadeUp(%para1_x) {instance name: a}
      : (<Tensor[Float32], (2, 2)>) -> (<Tensor[Float32], (2, 2)>)
  %1(b) = PrimFunc_Neg(%0)
      : (<Tensor[Float32], (2, 2)>) -> (<Tensor[Float32], ()>)
      : (<Float32xDefaultFormat[const vector]{2, 2}>) -> (<Float16xDefaultFormat[const vector]{}>)
  %2(c) = MakeTuple(%1)
''')
    assert found == ({Kernel('Neg', (('Float32', 2),), (('Float16', 0),), 'GPU')}, {'MadeUp'})
