"""The converter on the reference files, both ways, and its refusals."""
from __future__ import annotations

import numpy as np
import pytest

from src.common.errors import InputError
from src.weights.checkpoint import read_state
from src.weights.pth import read_pth, write_pth
from tools.convert_checkpoint import main


@pytest.mark.parametrize('stem, summary', [
    ('litehrnet_18_coco_256x192', 'litehrnet_18, 17 keypoints, 1,130,769 parameters'),
    ('tinypose_wider_naive_18_256x192', 'wider_naive_litehrnet_18, 17 keypoints, 1,318,625 parameters')])
def test_round_trip_is_bit_exact(goldens, tmp_path, capsys, stem, summary):
    source, ckpt, back = goldens / f'{stem}.pth', tmp_path / 'a.ckpt', tmp_path / 'b.pth'
    assert main([str(source), str(ckpt)]) == 0
    assert main([str(ckpt), str(back)]) == 0
    before, after = read_pth(source)['state_dict'], read_pth(back)['state_dict']
    assert list(before) == list(after)
    for name, value in before.items():
        assert (value.dtype, value.shape, value.tobytes()) == (after[name].dtype, after[name].shape,
                                                               after[name].tobytes()), name
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f'{source}: {summary}', f'{ckpt}: {len(before) - _layers(before)} entries written',
                       f'{ckpt}: {summary}', f'{back}: {len(before)} entries written']


def _layers(state: dict[str, np.ndarray]) -> int:
    return sum(name.endswith('.num_batches_tracked') for name in state)


@pytest.mark.slow
def test_moving_averages_on_request(goldens, tmp_path):
    state = read_pth(goldens / 'litehrnet_18_coco_256x192.pth')['state_dict']
    name = 'keypoint_head.final_layer.bias'
    write_pth(tmp_path / 'a.pth', {**state, 'ema_keypoint_head_final_layer_bias': state[name] + 1})
    for options, expected in (([], state[name]), (['--ema'], state[name] + 1)):
        assert main([str(tmp_path / 'a.pth'), str(tmp_path / 'a.ckpt'), '--overwrite', *options]) == 0
        np.testing.assert_array_equal(read_state(tmp_path / 'a.ckpt')[name], expected)


def test_misfits_leave_no_file(goldens, tmp_path):
    state = read_pth(goldens / 'litehrnet_18_coco_256x192.pth')['state_dict']
    write_pth(tmp_path / 'a.pth', {**state, 'surplus.weight': np.zeros(3, np.float32)})
    with pytest.raises(InputError, match=r'1 unknown: surplus\.weight'):
        main([str(tmp_path / 'a.pth'), str(tmp_path / 'a.ckpt')])
    write_pth(tmp_path / 'b.pth', {'fc.weight': np.zeros((2, 2), np.float32)})
    with pytest.raises(InputError, match=r'b\.pth: no Lite-HRNet'):
        main([str(tmp_path / 'b.pth'), str(tmp_path / 'b.ckpt')])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pth', 'b.pth']


def test_existing_target_and_wrong_suffixes(tmp_path):
    (tmp_path / 'a.ckpt').write_text('precious')
    with pytest.raises(InputError, match=r'a\.ckpt exists'):
        main([str(tmp_path / 'a.pth'), str(tmp_path / 'a.ckpt')])
    for names in (('a.pth', 'b.onnx'), ('a.pth', 'b.pdparams'), ('a.bin', 'b.pth')):
        with pytest.raises(InputError, match=r'give a \.ckpt, \.pth, \.pt or \.pdparams file to read and a \.ckpt, '
                                             r'\.pth or \.pt file to write'):
            main([str(tmp_path / name) for name in names])
    assert (tmp_path / 'a.ckpt').read_text() == 'precious'
