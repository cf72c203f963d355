"""Values that no run can use are refused by name."""
from __future__ import annotations

import pytest

from src.common.errors import InputError
from tests.test_config import settings


@pytest.mark.parametrize(('argv', 'words'), [
    (['--model.stage_channels', '1.5,2,3,4'], 'whole numbers'),
    (['--model.stage_modules', '1,1'], 'one branch more'),
    (['--device', 'cpu'], "device 'cpu': choose one of GPU, CPU, Ascend"),
    (['--model.module', 'naive'], "model.module 'naive': choose one of LITE, NAIVE"),
    (['--train.optimizer', 'RAdam'], "train.optimizer 'RAdam': choose one of AdamWeightDecay, Adam, SGD"),
    (['--eval.decoding', 'best'], "eval.decoding 'best': choose one of none, default, dark, udp"),
    (['--eval.nms', 'off'], "eval.nms 'off': choose one of hard, soft, none"),
    (['--eval.backend', 'cocotools'], "eval.backend 'cocotools': choose one of auto, xtcocotools, pycocotools"),
    (['--eval.boxes', 'all'], "eval.boxes 'all': choose one of"),
    (['--eval.blur_kernel', '10'], 'eval.blur_kernel 10: must be odd'),
    (['--data.image_size', '192,250'], r'data.image_size \(192, 250\): .*multiples of 32'),
    (['--data.image_size', '0,32'], r'data.image_size \(0, 32\): must be at least 32'),
    (['--data.image_size', '64'], 'multiples of 32'),
    (['--learning_rate', '-1'], 'learning_rate -1.0: must be at least 0'),
    (['--loss_scale', '0'], 'loss_scale 0: must be at least 1'),
    (['--random_seed', '-1'], 'random_seed -1'),
    (['--max_steps', '0'], 'max_steps 0'),
    (['--checkpoint_interval', '0'], 'checkpoint_interval 0'),
    (['--workers', '-1'], 'workers -1'),
    (['--train.epochs', '0'], 'train.epochs 0: must be at least 1'),
    (['--eval.batch_size', '0'], 'eval.batch_size 0'),
    (['--train.warmup_steps', '-5'], 'train.warmup_steps -5: must be at least 0')])
def test_refusals_name_the_value_in_one_line(argv: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        settings(*argv)
    assert '\n' not in str(caught.value)
