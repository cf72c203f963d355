"""The command line of the synthetic data set."""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from src.common.errors import InputError
from tools.make_synthetic_coco import main


def test_numbers_and_sizes_are_those_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / 'coco'
    assert main(['--output', str(output), '--train', '2', '--val', '1', '--image_size', '96', '64']) == 0
    assert capsys.readouterr().out == f'{output}: 2 training and 1 validation images\n'
    for split, count in (('train2017', 2), ('val2017', 1)):
        images = json.loads((output / f'annotations/person_keypoints_{split}.json').read_text())['images']
        assert [cv2.imread(str(output / split / image['file_name'])).shape for image in images] == [(64, 96, 3)] * count


@pytest.mark.parametrize(('option', 'value'), [('--train', '0'), ('--val', '-3'), ('--seed', '-1'),
                                               ('--max_persons', '99')])
def test_numbers_out_of_range_are_named(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(InputError, match=f'{option} {value}: choose a number from'):
        main(['--output', str(tmp_path / 'coco'), option, value])
    with pytest.raises(InputError, match='--image_size 9: choose a number from 64 to 2048'):
        main(['--output', str(tmp_path / 'coco'), '--image_size', '64', '9'])
    assert not any(tmp_path.iterdir())
