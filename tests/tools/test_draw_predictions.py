"""tools/draw_predictions.py as a user runs it."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction.drawing import LEFT, RIGHT
from tests.animals import CATEGORY
from tools import draw_predictions

JOINTS = [[64, 20, 1], [30, 60, 1], [98, 60, 1], [64, 110, 1]]  # nose, L_Ear, R_Ear, tail_base


def write_evaluation(folder: Path, results: list[dict[str, Any]] | None = None) -> list[str]:
    """Write two black images, their annotations and results; return the options that name them."""
    for name in ('1.png', '2.png', '3.png'):
        cv2.imwrite(str(folder / name), np.zeros((128, 128, 3), np.uint8))
    if results is None:
        results = [dict(image_id=number, category_id=3, keypoints=np.ravel(JOINTS).tolist(), score=0.9)
                   for number in (2, 1, 2)]
    (folder / 'results.json').write_text(json.dumps(results))
    (folder / 'annotations.json').write_text(json.dumps(dict(
        images=[dict(id=number, file_name=f'{number}.png') for number in (1, 2, 3)], annotations=[],
        categories=[CATEGORY])))
    return ['--model_config', 'litehrnet_18_custom_256x192', '--images', str(folder), '--output',
            str(folder / 'sheet.png'), '--results', str(folder / 'results.json'), '--annotations',
            str(folder / 'annotations.json')]


def test_each_image_is_a_tile(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert draw_predictions.main(write_evaluation(tmp_path)) == 0
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape == (320, 640, 3) and 'sheet.png: 2 images' in capsys.readouterr().out
    for column in (0, 320):  # both ears at 320 / 128 of their places
        assert tuple(sheet[150, 75 + column]) == LEFT and tuple(sheet[150, 245 + column]) == RIGHT


def test_a_sheet_that_is_too_high_for_its_format(tmp_path: Path) -> None:
    options = write_evaluation(tmp_path, [dict(image_id=n, category_id=3, keypoints=[9] * 12, score=1) for n in (1, 2)])
    annotations = json.loads((tmp_path / 'annotations.json').read_text())
    annotations['images'] = [dict(id=n, file_name='1.png') for n in range(210)]
    (tmp_path / 'annotations.json').write_text(json.dumps(annotations))
    (tmp_path / 'results.json').write_text(json.dumps(
        [dict(image_id=n, category_id=3, keypoints=[9] * 12, score=1) for n in range(210)]))
    with pytest.raises(InputError, match=r'sheet\.jpg: 320 x 67200 pixels are too many for this format'):
        draw_predictions.main([*options, '--columns', '1', '--count', '210', '--output', str(tmp_path / 'sheet.jpg')])
    assert not (tmp_path / 'sheet.jpg').exists()


def test_only_so_many_images_and_columns(tmp_path: Path) -> None:
    options = write_evaluation(tmp_path)
    assert draw_predictions.main([*options, '--columns', '1']) == 0
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape == (640, 320, 3)
    assert draw_predictions.main([*options, '--count', '1']) == 0
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape == (320, 320, 3)


def test_keypoints_by_a_file_and_names_as_windows_writes_them(tmp_path: Path) -> None:
    """As --data.info has it, with a byte order mark; image ids are texts."""
    options, path = write_evaluation(tmp_path), tmp_path / 'annotations.json'
    (tmp_path / 'below').mkdir()
    for name in ('1.png', '2.png', '3.png'):
        (tmp_path / name).rename(tmp_path / 'below' / name)
    annotations, results = json.loads(path.read_text()), json.loads((tmp_path / 'results.json').read_text())
    for image in annotations['images']:
        image.update(id=f'id {image["id"]}', file_name=f'below\\{image["file_name"]}')
    for result in results:
        result['image_id'] = f'id {result["image_id"]}'
    annotations['categories'][0]['skeleton'] = [[0, 9]]
    info = dict(joint_names=['a_left', 'b_left', 'b_right', 'c'], skeleton=[[1, 2]])
    for name, content in (('annotations', annotations), ('results', results), ('info', info)):
        (tmp_path / f'{name}.json').write_text('\ufeff' + json.dumps(content), encoding='utf-8')
    assert draw_predictions.main([*options, '--data.info', str(tmp_path / 'info.json')]) == 0
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert tuple(sheet[50, 160]) == LEFT and sheet[150, 160].any(), 'drawn as the annotations have it'


@pytest.mark.parametrize(('results', 'more', 'words'), [
    ([], (), 'holds no person'),
    ([dict(image_id=9, category_id=3, keypoints=[0] * 12, score=1)], (), 'image 9'),
    ([dict(image_id=1, category_id=3, keypoints=[0] * 51, score=1)], (), '12 numbers'),
    ([dict(image_id=1, category_id=3, score=1)], (), "no key 'keypoints'"),
    ({}, (), 'not a list'),
    (None, ('--count', '0'), '--count'),
    (None, ('--output', 'sheet.gif'), r'\.png or \.jpg'),
])
def test_what_is_refused(tmp_path: Path, results: Any, more: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_predictions.main([*write_evaluation(tmp_path, results), *more])
    assert not (tmp_path / 'sheet.png').exists()
