"""Values that no run can use are refused by name."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from src.common.errors import InputError
from src.cpu.cells import accelerate
from src.settings.build import build_network
from src.settings.checks import check, check_metrics
from tests.networks import mode, randomise
from tests.test_config import settings


@pytest.mark.parametrize(('argv', 'words'), [
    (['--model.stage_channels', '1.5,2,3,4'], 'whole numbers'),
    (['--model.stage_modules', '1,1'], r'model.stage_channels \(40, 80, 160, 320\): takes 3 widths'),
    (['--model.stage_modules', '1,1,1,1', '--model.stage_channels', '8,16,32,64,128'],
     r'model.stage_modules \(1, 1, 1, 1\): takes one to three stages'),
    (['--model.stage_modules', '()', '--model.stage_channels', '40'], r'model.stage_modules \(\): takes one to three'),
    (['--model.stage_channels', '40,80,160,315'], r'\(40, 80, 160, 315\): LITE takes even widths of at least 8'),
    (['--model.stage_channels', '6,12,24,48'], 'LITE takes even widths of at least 8'),
    (['--model.module', 'NAIVE', '--model.stage_channels', '15,30,60,120'], 'NAIVE takes even widths of at least 2'),
    (['--model.num_joints', '0'], 'model.num_joints 0: must be at least 1'),
    (['--model.num_joints', '16'], 'model.num_joints 16: the data have 17 keypoints; omit it'),
    (['--data.heatmap_size', '96,128'], r'data.heatmap_size \(96, 128\): follows from .*, \(48, 64\); omit it'),
    (['--train.lr_steps', '170,-1'], r'train.lr_steps \(170, -1\): must be at least 0'),
    (['--train.lr_gamma', '-0.1'], 'train.lr_gamma -0.1: must be at least 0'),
    (['--train.warmup_ratio', '-1'], 'train.warmup_ratio -1.0: must be at least 0'),
    (['--ema_decay', '1'], 'ema_decay 1.0: must be below 1'),
    (['--device', 'cpu'], "device 'cpu': choose one of GPU, CPU, Ascend"),
    (['--model.module', 'naive'], "model.module 'naive': choose one of LITE, NAIVE"),
    (['--train.optimizer', 'RAdam'], "train.optimizer 'RAdam': choose one of AdamWeightDecay, Adam, SGD"),
    (['--eval.decoding', 'best'], "eval.decoding 'best': choose one of none, default, dark, udp"),
    (['--eval.nms', 'off'], "eval.nms 'off': choose one of hard, soft, none"),
    (['--eval.backend', 'cocotools'], "eval.backend 'cocotools': choose one of auto, xtcocotools, pycocotools"),
    (['--eval.boxes', 'all'], "eval.boxes 'all': choose one of"),
    (['--eval.blur_kernel', '10'], 'eval.blur_kernel 10: must be odd'),
    (['--eval.metrics', 'PCK,PCKh'], r"eval.metrics \('PCK', 'PCKh'\): choose some of AP, PCK, AUC, EPE, NME"),
    (['--eval.pck_threshold', '-0.1'], 'eval.pck_threshold -0.1: must be at least 0'),
    (['--eval.nme_keypoints', '-1,2'], r'eval.nme_keypoints \(-1, 2\): must be at least 0'),
    (['--data.image_size', '192,250'], r'data.image_size \(192, 250\): .*width and height, both multiples of 32'),
    (['--data.image_size', '0,32'], r'data.image_size \(0, 32\): must be at least 32'),
    (['--data.image_size', '64'], 'multiples of 32'),
    (['--learning_rate', '-1'], 'learning_rate -1.0: must be at least 0'),
    (['--loss_scale', '0'], 'loss_scale 0: must be at least 1'),
    (['--random_seed', '-1'], 'random_seed -1'),
    (['--random_seed', str(2 ** 64)], 'random_seed 18446744073709551616: must be below 18446744073709551616'),
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


@pytest.mark.parametrize(('argv', 'boxes', 'words'), [
    (['--eval.metrics', 'AP,PCK,NME'], 'det', r"boxes 'det': eval.metrics PCK, NME .*; give --eval.boxes gt"),
    (['--eval.metrics', 'NME', '--eval.nme_keypoints', '3'], 'gt', r'eval.nme_keypoints \(3,\): takes two'),
    (['--eval.metrics', 'NME', '--eval.nme_keypoints', '3,3'], 'gt', r'eval.nme_keypoints \(3, 3\): takes two'),
    (['--eval.metrics', 'NME', '--eval.nme_keypoints', '3,17'], 'gt', r'two different numbers below 17'),
    (['--model_config', 'litehrnet_18_mpii_256x256', '--eval.metrics', 'PCK'], 'gt', 'eval.metrics PCK: .*PCKh')])
def test_metrics_that_the_data_do_not_have(argv: list[str], boxes: str, words: str) -> None:
    _, config = settings(*argv)
    with pytest.raises(InputError, match=words) as caught:
        check_metrics(config, boxes)
    assert '\n' not in str(caught.value)


def test_metrics_that_the_data_have() -> None:
    check_metrics(settings()[1], 'det')
    check_metrics(settings('--eval.metrics', 'NME,AP', '--eval.nme_keypoints', '0,16')[1], 'gt')
    check_metrics(settings('--model_config', 'litehrnet_18_mpii_256x256')[1], 'gt')
    _, config = settings()
    with pytest.raises(InputError, match=r'eval.metrics \(\): takes at least one'):
        check({}, {**config, 'eval': {**config['eval'], 'metrics': ()}})


@pytest.mark.parametrize(('module', 'modules', 'channels', 'size'), [
    ('LITE', '1,1', '8,10,22', '32,64'), ('NAIVE', '1', '2,6', '64,32')])
def test_narrow_networks_run_alike_with_and_without_kernels(module: str, modules: str, channels: str,
                                                            size: str) -> None:
    _, config = settings('--model.module', module, '--model.stage_modules', modules, '--model.stage_channels',
                         channels, '--data.image_size', size)
    networks = [build_network(config) for _ in range(2)]
    for network in networks:
        randomise(network)
    accelerate(networks[1])
    width, height = config['data']['image_size']
    images = ms.Tensor(np.random.default_rng(0).standard_normal((2, 3, height, width)).astype(np.float32))
    with mode(ms.PYNATIVE_MODE):
        expected, found = (network.set_train(False)(images).asnumpy() for network in networks)
    assert expected.shape == (2, 17, height // 4, width // 4) and np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
