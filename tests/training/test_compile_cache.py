"""A second start takes its graph from the cache, and trains the same bits."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.config import resolve
from src.cpu.kernels import build_library
from src.training import compile_cache
from src.training.compile_cache import KEPT_GRAPHS, graph_folder
from tests.programs.test_programs import ROOT, train_options

NAME = 'litehrnet_18_coco_256x192'


def train(data: Path, output: Path, cache: Path, *more: str) -> tuple[str, bytes]:
    """What a training said, and its checkpoint."""
    done = subprocess.run([sys.executable, str(ROOT / 'train.py'), *train_options(data, output, *more)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=160,
                          env={**os.environ, 'XDG_CACHE_HOME': str(cache)})
    assert done.returncode == 0, done.stdout
    return done.stdout, (output / f'checkpoints/tiny/{NAME}.ckpt').read_bytes()


@pytest.mark.slow
def test_second_start_and_a_damaged_cache(synthetic: Path, tmp_path: Path) -> None:
    cache = tmp_path / 'cache'
    (cache / 'litehrnet').mkdir(parents=True)
    if library := build_library():  # compiling it anew would take its time
        shutil.copy(library, cache / 'litehrnet')
    said, plain = train(synthetic, tmp_path / 'plain', cache, '--compile_cache', 'false')
    assert 'compiled in' in said and '[WARNING]' not in said and not (cache / 'litehrnet/graphs').exists()
    said, first = train(synthetic, tmp_path / 'first', cache)
    assert 'compiled in' in said
    [graph] = (cache / 'litehrnet/graphs').iterdir()  # and nothing half-written beside it
    for output, words in (('second', 'taken from the cache in'), ('third', 'in ')):
        said, found = train(synthetic, tmp_path / output, cache)
        assert words in said and found == first == plain
        [file] = graph.rglob('*.mindir')
        os.truncate(file, 1000)  # MindSpore compiles again
    said, other = train(synthetic, tmp_path / 'other', cache, '--random_seed', '4')
    assert other != plain and len(list((cache / 'litehrnet/graphs').iterdir())) == 1
    said, _ = train(synthetic, tmp_path / 'rate', cache, '--learning_rate', '1e-4')
    assert 'compiled in' in said and len(list((cache / 'litehrnet/graphs').iterdir())) == 2


def test_the_folder_follows_from_all_that_the_graph_does(tmp_path: Path) -> None:
    def folder(steps: int = 10, dotted: dict | None = None, **given: str) -> Path:
        return graph_folder(*resolve({'device': 'CPU', **given}, dotted or {}), steps)

    same = folder()
    assert folder(random_seed='1', experiment_tag='other', workers='0', resume='yes') == same
    others = [folder(11), folder(learning_rate='1'), folder(loss_scale='2'), folder(ema_decay='0.9'),
              folder(clip_norm='1'), folder(freeze='stem'), folder(cpu_kernels='false'), folder(amp_level='O2'),
              folder(dotted={'train.batch_size': '3'}), folder(dotted={'data.image_size': '64,64'}),
              folder(dotted={'train.optimizer': 'Adam'}), folder(model_config='litehrnet_30_coco_256x192')]
    assert len({same, *others}) == len(others) + 1


def test_the_oldest_go_and_so_does_what_killed_runs_left(tmp_path: Path) -> None:
    for number in range(KEPT_GRAPHS + 3):
        (tmp_path / f'graph{number}').mkdir()
        os.utime(tmp_path / f'graph{number}', (number, number))
    for name in ('.old', '.running', '.new'):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / '.old', (0, time.time() - 90000))
    compile_cache._keep(tmp_path / '.new', tmp_path / 'new')
    assert {path.name for path in tmp_path.iterdir()} == {
        'new', '.running', *(f'graph{number}' for number in range(4, KEPT_GRAPHS + 3))}
