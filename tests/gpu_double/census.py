"""Which kernels a MindSpore's GPU plugin takes for the graphs of Lite-HRNet, found by compiling them in the double.

    LD_PRELOAD=... <a release's python> tests/gpu_double/census.py KIND...   # what `census` starts

A registry of kernels can't be read from the wheel's files as text: names are merged and built in code. It answers while
a graph is compiled, though: every node asks it for its name, types and formats, and the plugin makes the kernel. So the
wheel's own plugin is loaded over the double's libraries and the graphs are read after that, as MindSpore dumps them.
"""
from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64
# The network for inference, and as exported with BN folded; training steps, in float32 with clipping and accumulation.
KINDS = ('eval', 'export', 'O0', 'O2', 'O3')
# What is no part of the network, for tests of the census: bound to the CPU; of types that no GPU kernel takes.
CONTROLS = {'bound': ('Mul', 'float32'), 'int32': ('MatMul', 'int32'), 'float16': ('Cdist', 'float16')}
# These only order, group or name values; no device is asked for them.
VIRTUAL = {'Load', 'UpdateState', 'Depend', 'MakeTuple', 'TupleGetItem', 'Return', 'Reshape', 'Partial', 'Switch'}


@dataclass(frozen=True)
class Release:
    """A MindSpore with a GPU plugin.

    Args:
        environment: its virtual environment in the checkout.
        plugin: files that import CUDA, in the wheel's lib/.
        kernels: the library of CUDA kernels, and NCCL, there.
        nvrtc: the name under which the plugin wants the run-time compiler.
    """

    environment: str
    plugin: tuple[str, ...]
    kernels: str
    nvrtc: str


_PLUGIN_2 = ('plugin/libmindspore_gpu.so.11.6', 'plugin/gpu11.6/libnvidia_collective.so', 'plugin/gpu11.6/libakg.so')
RELEASES = {
    '1.10.0': Release('.venv-gpu110', ('plugin/libmindspore_gpu.so', 'libgpu_collective.so', 'libnvidia_collective.so',
                                       'libakg.so'), 'libcuda_ops.so', 'libnvrtc.so.11.1'),
    '2.0.0': Release('.venv-ms200', _PLUGIN_2, 'plugin/gpu/libcuda_ops.so.11', 'libnvrtc.so.11.2'),
    '2.8.0': Release('.venv', _PLUGIN_2, 'plugin/gpu/libcuda_ops.so.11', 'libnvrtc.so.11.2'),
}


def library_folder(release: Release) -> Path | None:
    """Return the folder of a release's libraries; None where it is not installed with its GPU plugin."""
    for folder in (ROOT / release.environment / 'lib').glob('python3*/site-packages/mindspore/lib'):
        if all((folder / name).is_file() for name in (*release.plugin, release.kernels)):
            return folder
    return None


def environment(release: Release, out: Path) -> dict[str, str]:
    """Build the double for a release in `out` and return the environment that it needs."""
    from tests.gpu_double.build import build_libraries

    library = library_folder(release)
    assert library
    out.mkdir(parents=True)
    build_libraries(out, [library / name for name in release.plugin], library / release.kernels, release.nvrtc)
    compiler = out / 'bin/nvcc'  # MindSpore 2.8 asks it which of its plugins to load
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\necho "Cuda compilation tools, release 11.6, V11.6.55"\n')
    compiler.chmod(0o755)
    return {'LD_LIBRARY_PATH': str(out), 'LD_PRELOAD': f'{out / Path(release.kernels).name} {out / "libnccl.so.2"}',
            'CUDA_HOME': str(out), 'OMP_NUM_THREADS': '1'}


@dataclass(frozen=True)
class Kernel:
    """A node for which a device has a kernel: primitive, (type, rank) of each input and output, the device."""

    primitive: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    device: str


def _values(text: str) -> tuple[tuple[str, int], ...]:
    shapes = re.findall(r'<(\w+?)x\w+\[const vector\][\[{]([\d, -]*)[\]}]>', text)
    return tuple((kind, len(shape.split(',')) if shape else 0) for kind, shape in shapes)


def read_kernels(text: str) -> tuple[set[Kernel], set[str]]:
    """Return the kernels of a dumped graph, and the primitives of nodes for which none was chosen."""
    kernels, without = set(), set()
    for node in re.split(r'\n(?=  +%\d+\()', text)[1:]:
        line, *rest = node.split('\n')
        name = re.search(r'\) = (?:PrimFunc_)?(\w+)\(', line)
        chosen = [row for row in rest if re.search(r'<\w+x\w+\[const vector\]', row)]
        if not name or name.group(1) in VIRTUAL:
            continue
        if not chosen:
            without.add(name.group(1))
            continue
        inputs, _, outputs = chosen[0].partition(' -> ')
        cpu = re.search(r'primitive_target: "?CPU|kernel_backoff_with_failure_info', node)  # 2.0 and 2.8 may choose it
        kernels.add(Kernel(name.group(1), _values(inputs), _values(outputs), 'CPU' if cpu else 'GPU'))
    return kernels, without


def census(release: Release, double: dict[str, str], out: Path, *kinds: str) -> tuple[set[Kernel], set[str], str]:
    """Compile graphs on a release's GPU plugin, and return what `read_kernels` does, and the program's output.

    Args:
        release: where to compile.
        double: of `environment`, or for 1.10.0 of `build`.
        out: a folder to make, for the dumped graphs.
        kinds: of KINDS or CONTROLS.
    """
    out.mkdir(parents=True)
    dump = {'MS_RDR_ENABLE': '1', 'MS_RDR_MODE': '2', 'MS_RDR_PATH': str(out)}  # 1.10 and 2.0
    dump |= {'MS_DEV_SAVE_GRAPHS': '1', 'MS_DEV_SAVE_GRAPHS_PATH': str(out)} if release == RELEASES['2.8.0'] else {}
    dump |= {'PYTHONPATH': str(ROOT), 'GLOG_v': '4'}
    done = subprocess.run([str(ROOT / release.environment / 'bin/python'), __file__, *kinds], cwd=out, text=True,
                          env={**os.environ, **double, **dump}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    kernels: set[Kernel] = set()
    without: set[str] = set()
    for pattern in ('rank_0/rdr/SESSION.graph_build.*.ir', 'hwopt_common_final_graph_*.ir'):
        for path in out.glob(pattern):
            found, missing = read_kernels(path.read_text(errors='replace'))
            kernels |= found
            without |= missing
    return kernels, without, done.stdout + ('' if done.returncode == 0 else f'\nexit status {done.returncode}')


def compile_graph(kind: str) -> None:
    """Compile one of KINDS or CONTROLS for the GPU."""
    import mindspore as ms
    import numpy as np
    from mindspore import nn, ops

    from src.deployment.fold import fold_batch_norm
    from src.loss import JointsMSELoss, NetWithLoss
    from src.model import LiteHRNet
    from src.training.train_step import TrainStep
    from src.utils import make_optimizer, set_precision

    class Control(nn.Cell):
        """One operator."""

        def __init__(self, operator: ops.Primitive) -> None:
            super().__init__()
            self.operator = operator

        def construct(self, x):
            return self.operator(x, x)

    ms.set_context(mode=ms.GRAPH_MODE, device_target='GPU')
    if kind in CONTROLS:
        name, dtype = CONTROLS[kind]
        operator = getattr(ops, name)()
        if kind == 'bound':
            operator.add_prim_attr('primitive_target', 'CPU')
        Control(operator).compile(ms.Tensor(np.ones((2, 2), dtype)))
        return
    images = ms.Tensor(np.zeros((2, 3, SIZE, SIZE), np.float32))
    network = LiteHRNet((SIZE, SIZE), stage_modules=(1,), stage_channels=(8, 16), num_joints=3)
    if kind in ('eval', 'export'):
        if kind == 'export':
            fold_batch_norm(network)
        network.set_train(False).compile(images)
        return
    set_precision(network, kind)
    optimizer = make_optimizer('AdamWeightDecay', network, np.full(9, 1e-3, np.float32), 1e-6)
    more = dict(clip_norm=0.1, accumulate_steps=2) if kind == 'O0' else {}
    step = TrainStep(NetWithLoss(network, JointsMSELoss()), optimizer, 1.0 if kind == 'O0' else 1024.0, **more)
    step.set_train().compile(images, *(ms.Tensor(np.ones((2, 3, *size), np.float32))
                                       for size in ((SIZE // 4, SIZE // 4), (1,))))


if __name__ == '__main__':
    for word in sys.argv[1:]:
        compile_graph(word)
        print(f'compiled {word}', flush=True)
