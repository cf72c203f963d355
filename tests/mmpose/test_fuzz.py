"""Readers of annotations, detections and pictures on arbitrary changes of valid files: a result or one line."""
from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from configs.mpii_base import dataset_info as mpii_info
from src.common.errors import InputError
from src.mmpose.coco import CocoDataset
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.image import read_image
from src.mmpose.mpii import MpiiDataset
from src.mmpose.pipeline import Compose
from tests.mmpose.test_coco import BOX, INFO, SIZES, TRAIN, content

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10 ** 300, 10 ** 400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(['id', 'bbox', 'image_id', 'keypoints']), inner, max_size=3), max_leaves=6)
PERSON = {'image': 'a.png', 'center': [25, 30], 'scale': 0.3, 'joints': [[10, 12]] * 16, 'joints_vis': [1] * 16}
BOUNDED = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all parts of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, valid: Any) -> Any:
    """`valid` with one to three parts replaced by anything, or removed."""
    box = [copy.deepcopy(valid)]
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(places(box)[1:]))
        node = box
        for key in parents:
            node = node[key]
        if draw(st.booleans()) and isinstance(node, dict):
            del node[last]
        else:
            node[last] = draw(JSON)
        if not box[0]:
            break
    return box[0]


def assert_read_or_refused(files: dict[str, Any], make: Any) -> None:
    """Opens the files and reads samples: finite arrays, or an InputError of one line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cv2.imwrite(str(folder / 'a.png'), np.full((60, 50, 3), 99, np.uint8))
        for file, value in files.items():
            (folder / file).write_text(json.dumps(value))
        try:
            opened = make(folder)
            for index in range(min(3, len(opened))):
                sample = opened.sample(index, 1)
                assert all(np.isfinite(sample[key]).all() for key in ('img', 'target', 'target_weight'))
        except InputError as error:
            assert '\n' not in str(error)


@BOUNDED
@given(changed(content()))
@example([])
def test_annotations(values: Any) -> None:
    assert_read_or_refused({'gt.json': values}, lambda f: CocoDataset(INFO, f / 'gt.json', f, *SIZES, TRAIN))


@BOUNDED
@given(changed([BOX, BOX]))
def test_detections(values: Any) -> None:
    assert_read_or_refused({'gt.json': content(), 'det.json': values},
                           lambda f: CocoDataset(INFO, f / 'gt.json', f, *SIZES, TRAIN, detection_file=f / 'det.json'))


@BOUNDED
@given(changed([PERSON, PERSON]))
def test_mpii_persons(values: Any) -> None:
    pipeline = [step for step in TRAIN if 'HalfBody' not in step['type'] and 'BboxCenter' not in step['type']]
    assert_read_or_refused({'gt.json': values},
                           lambda f: MpiiDataset(DatasetInfo.from_dict(mpii_info), f / 'gt.json', f, *SIZES, pipeline))


STEPS = [dict(type='PhotometricDistortion', brightness_delta=32, contrast_range=[0.5, 1.5], saturation_range=[0.5, 1.5],
              hue_delta=18), dict(type='ToTensor', device='cpu'),
         dict(type='TopDownGenerateTarget', sigma=2, kernel=[11, 11], encoding='Megvii', target_type='GaussianHeatmap',
              unbiased_encoding=False),
         dict(type='Collect', keys=['img', ['target', 'map']], meta_keys=['image_file'], meta_name='meta')]
BUILT = [dict(type='LoadImageFromFile', channel_order='bgr', file_client_args={'backend': 'disk'})]


@BOUNDED
@given(changed(STEPS + BUILT))
def test_pipelines(steps: Any) -> None:
    try:
        assert Compose(steps if isinstance(steps, list) else STEPS).steps is not None
    except InputError as error:
        assert '\n' not in str(error)


@BOUNDED
@given(changed(STEPS), st.integers(0, 99))
def test_a_pipeline_that_is_built_runs(steps: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    record = dict(img=rng.integers(0, 256, (6, 5, 3), np.uint8), rng=rng, image_file='a.png',
                  joints_3d_visible=np.ones((3, 3)), joints_3d=rng.uniform(-9, 60, (3, 3)),
                  ann_info=dict(image_size=(48, 64), heatmap_size=(12, 16)))
    try:
        results = Compose(steps if isinstance(steps, list) else STEPS)(record)
        assert all(np.isfinite(value).all() for value in results.values() if isinstance(value, np.ndarray))
    except InputError as error:
        assert '\n' not in str(error)


@BOUNDED
@given(st.sampled_from(['.jpg', '.png', '.bmp']), st.data())
def test_pictures(suffix: str, data: st.DataObject) -> None:
    content = bytearray(cv2.imencode(suffix, np.arange(1200, dtype=np.uint16).reshape(20, 20, 3).astype(np.uint8))[1])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, 2 * len(content))):]
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        try:
            picture = read_image(file.name)
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        except InputError as error:
            assert '\n' not in str(error)
