"""The clock of the progress callback; what it writes is tested where train.py runs."""
from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest

from src import callback as module
from src.common import epoch_log


def test_time_between_epochs_and_for_compiling_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, 'time', lambda: now[0])
    progress = module.Progress(np.full(4, 0.1, np.float32), 2, 0, 10, tmp_path, logging.getLogger('clock'), None, 5)
    outputs = SimpleNamespace(net_outputs=(ms.Tensor(0.5), ms.Tensor(True)))
    context = SimpleNamespace(original_args=lambda: outputs, request_stop=lambda: None)
    progress.on_train_begin(context)
    # Seconds waited for data at the beginning of the epoch, and those of its two steps.
    for wait, steps in ((3, (50, 1)), (3, (1, 1))):
        progress.on_train_epoch_begin(context)
        now[0] += wait
        for seconds in steps:
            progress.on_train_step_begin(context)
            now[0] += seconds
            progress.on_train_step_end(context)
        progress.on_train_epoch_end(context)
        now[0] += 100
    progress.close()
    first, second = epoch_log.read(tmp_path / epoch_log.FILE)
    assert first['seconds'] == 1 and first['images_per_second'] == 10
    assert second['seconds'] == 5 and second['images_per_second'] == 4
