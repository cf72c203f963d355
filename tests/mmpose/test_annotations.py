"""Every entry of an annotation file is taken, mended, omitted and counted, or refused by name."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.common.errors import InputError
from src.mmpose.annotations import Annotations, read_annotations
from src.mmpose.dataset_info import DatasetInfo

INFO = DatasetInfo('three', ('nose', 'left_ear', 'right_ear'), ((1, 2),), (), (0.1,) * 3, ())
POINTS = [10, 12, 2, 30, 12, 1, 20, 42, 2]
BOX, AREA, COUNT, NAME, SIZE = (
    'boxes (taken from the labelled keypoints)', 'areas (0.53 of the box)',
    'values of num_keypoints (counted from the labels)', 'file names (backslashes)',
    'image sizes (taken from the images)')
NO_BOX, OTHER = 'annotations without a usable box', 'annotations of other categories'
NAN, INF = float('nan'), float('inf')


def annotation(number: Any = 1, drop: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    values = {'id': number, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'bbox': [5, 6, 30, 40], 'area': 900,
              'num_keypoints': 3, 'keypoints': POINTS, **changes}
    return {key: value for key, value in values.items() if key not in drop}


def image(number: Any = 1, **changes: Any) -> dict[str, Any]:
    return {'id': number, 'file_name': f'{number}.jpg', 'width': 100, 'height': 80, **changes}


def read(folder: Path, *annotations: dict[str, Any], info: DatasetInfo = INFO, **more: Any) -> Annotations:
    (folder / 'gt.json').write_text(json.dumps({'images': [image()], 'annotations': annotations, **more}))
    return read_annotations(folder / 'gt.json', info)


def test_an_ordinary_file_needs_no_mending(tmp_path: Path) -> None:
    found = read(tmp_path, annotation(7), annotation(8, keypoints=[0] * 9, num_keypoints=0), annotation(9, iscrowd=1))
    person, = found.persons
    assert (person.number, person.id, person.image_id, person.category_id, person.crowd) == (1, 7, 1, 1, False)
    assert person.keypoints.ravel().tolist() == POINTS and person.box.tolist() == [5, 6, 30, 40] and person.area == 900
    assert [(a.number, a.id, a.crowd) for a in found.ignored] == [(2, 8, False), (3, 9, True)]
    assert found.remarks == '' and found.images[1].size == (100, 80) and found.categories == [1]


TIGHT = [10, 12, 20, 30]


@pytest.mark.parametrize(('given', 'box', 'area', 'mended'), [
    (annotation(drop=('bbox',)), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=None), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=[]), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=[0, 0, 0, 0]), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=[9, 9, -3, 20]), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=[9, NAN, 20, 20]), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=[9, 9, INF, 20]), TIGHT, 900, {BOX: 1}),
    (annotation(bbox=[100, 10, 30, 30]), TIGHT, 900, {BOX: 1}),
    (annotation(drop=('bbox', 'area')), TIGHT, 0.53 * 600, {BOX: 1, AREA: 1}),
    (annotation(drop=('area',)), [5, 6, 30, 40], 0.53 * 1200, {AREA: 1}),
    *((annotation(area=area), [5, 6, 30, 40], 0.53 * 1200, {AREA: 1}) for area in (0, -5, NAN, INF, None)),
    *((annotation(num_keypoints=count), [5, 6, 30, 40], 900, {COUNT: 1}) for count in (0, 2, '3', NAN)),
    (annotation(num_keypoints=3.0), [5, 6, 30, 40], 900, {}),
    (annotation(drop=('num_keypoints', 'iscrowd', 'category_id')), [5, 6, 30, 40], 900, {}),
    (annotation(iscrowd=False), [5, 6, 30, 40], 900, {}),
    (annotation(iscrowd=None), [5, 6, 30, 40], 900, {}),
    (annotation(bbox=[-5, -5, 500, 500]), [-5, -5, 500, 500], 900, {}),
])
def test_what_a_person_lacks_is_taken_from_what_is_there(tmp_path: Path, given: dict, box: list, area: float,
                                                         mended: dict) -> None:
    found = read(tmp_path, given)
    person, = found.persons
    assert person.box.tolist() == box and person.area == pytest.approx(area)
    assert {kind: n for kind, n in found.mended.items() if n} == mended and not found.omitted
    assert bool(found.remarks) == bool(mended)


@pytest.mark.parametrize(('values', 'expected'), [
    ([[10, 12, 2], [30, 12, 1], [20, 42, 2]], POINTS),
    ([10, 12, 2, None, None, 0, 20, 42, 2], [10, 12, 2, 0, 0, 0, 20, 42, 2]),
    ([10, 12, 2, NAN, NAN, 0, 20, 42, 2], [10, 12, 2, 0, 0, 0, 20, 42, 2]),
    ([10, 12, 2, None, None, None, 20, 42, 2], [10, 12, 2, 0, 0, 0, 20, 42, 2]),
    ([10, 12, 2, 1e300, 4, 0, 20, 42, 2], [10, 12, 2, 0, 4, 0, 20, 42, 2]),
    ([10, 12, 2, 7, 8, 0, 20, 42, 2], [10, 12, 2, 7, 8, 0, 20, 42, 2]),
    ([10.5, 12, 2, 7, 8, -1, 20, 42, 0.5], [10.5, 12, 2, 7, 8, -1, 20, 42, 0.5]),
])
def test_keypoints_as_tools_write_them(tmp_path: Path, values: list, expected: list) -> None:
    person, = read(tmp_path, annotation(keypoints=values, drop=('num_keypoints',))).persons
    assert person.keypoints.shape == (3, 3) and person.keypoints.ravel().tolist() == expected


@pytest.mark.parametrize(('changes', 'words'), [
    (dict(keypoints=[10, None, 2] * 3), 'its labelled keypoints are not all finite'),
    (dict(keypoints=[10, 1e9, 2] * 3), 'below 1e.09'),
    (dict(keypoints=[10, 12, None] * 3), 'coordinates and no label'),
    (dict(keypoints=[10, 12, 2]), '9 numbers expected where there are 3'),
    (dict(keypoints=[[10, 12], [30, 12]]), '9 numbers expected where there are 4'),
    (dict(keypoints='nose'), 'malformed'), (dict(keypoints=7), 'malformed'),
    (dict(bbox=[[5, 6], [35, 46]]), 'two corners; give .x, y, width, height'),
    (dict(bbox=[5, 6, 30]), '4 numbers'), (dict(bbox='5 6 30 40'), 'malformed'), (dict(area='large'), 'malformed'),
    (dict(iscrowd='no'), 'malformed'), (dict(image_id=2), 'image 2 is not in the file'),
    (dict(image_id='1'), "image '1' is not in the file"),
])
def test_what_contradicts_itself_is_refused_by_name(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=f'gt.json: annotation .*5.*{words}') as caught:
        read(tmp_path, annotation(4), annotation('5', **changes))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('keypoints', [[], None, [0] * 9, [None] * 9])
def test_entries_of_nobody_are_omitted_and_counted(tmp_path: Path, keypoints: list | None) -> None:
    """CVAT's tracks have them for every frame in which an object is outside."""
    found = read(tmp_path, annotation(1), annotation(2, keypoints=keypoints, bbox=[0, 0, 0, 0], area=0))
    assert len(found.persons) == 1 and not found.ignored and found.omitted == {NO_BOX: 1}
    assert found.remarks == f'{tmp_path}/gt.json: omitted 1 {NO_BOX}'


def test_a_person_with_neither_box_nor_extent_is_omitted(tmp_path: Path) -> None:
    one = dict(keypoints=[10, 12, 2, 0, 0, 0, 0, 0, 0], num_keypoints=1)
    far = dict(keypoints=[500, 12, 2, 600, 40, 2, 0, 0, 0], num_keypoints=2, bbox=[500, 12, 100, 30])
    found = read(tmp_path, annotation(1, bbox=None, **one), annotation(2, **one), annotation(3, **far))
    assert [person.id for person in found.persons] == [2] and found.omitted == {NO_BOX: 2}


def test_boxes_without_keypoints_are_people_to_ignore(tmp_path: Path) -> None:
    found = read(tmp_path, annotation(drop=('keypoints', 'num_keypoints', 'area')))
    person, = found.ignored
    assert not found.persons and person.area == pytest.approx(0.53 * 1200) and not found.remarks


def test_images_are_mended_and_numbered(tmp_path: Path) -> None:
    images = [image(9, file_name='cam1\\a\\1.jpg'), image(-2, width=None), image(0, width=0), image(2 ** 70)]
    found = read(tmp_path, images=images)
    assert [(i.number, i.file_name) for i in found.images.values()] == [
        (3, 'cam1/a/1.jpg'), (1, '-2.jpg'), (2, '0.jpg'), (4, f'{2 ** 70}.jpg')]
    assert [found.images[key].size for key in (9, -2, 0)] == [(100, 80), None, None]
    assert found.mended == {NAME: 1, SIZE: 2}
    mixed = read(tmp_path, images=[image('b'), image(1), image('a')])
    assert [i.number for i in mixed.images.values()] == [1, 2, 3]


def category(number: Any, *keypoints: str, **more: Any) -> dict[str, Any]:
    return dict(id=number, name=f'kind {number}', **({'keypoints': list(keypoints)} if keypoints else {}), **more)


NAMES = INFO.joint_names


@pytest.mark.parametrize(('categories', 'kinds', 'expected'), [
    ([category(1), category(2, *NAMES)], {2}, [2]),
    ([category(1, *NAMES), category(2)], {1}, [1]),
    ([category(5, *NAMES), category(2, 'a', 'b', 'c'), category('x', *NAMES)], {5, 'x'}, [5, 'x']),
    ([category(2, 'a', 'b', 'c'), category(3, 'a', 'b')], {2}, [2]),  # other names of as many
    ([category(3, 'Nose', 'L_Ear', 'ear-right'), category(2, 'a', 'b', 'c')], {3}, [3]),
    ([category(7, name2='a'), category(8)], {7}, [7]),  # nothing listed: where labels are
    ([], {4}, [4]),
])
def test_categories_with_the_models_keypoints_are_persons(tmp_path: Path, categories: list, kinds: set,
                                                          expected: list) -> None:
    """Others are omitted, whatever their entries hold: 17 zeros, other counts, boxes over the whole image."""
    persons = [annotation(n, category_id=kind) for n, kind in enumerate(kinds)]
    others = [annotation(90, category_id=70, keypoints=[0] * 9), annotation(91, category_id=71, drop=('keypoints',)),
              annotation(92, category_id=[1], keypoints=[1, 2, 2])]
    if any(c.get('keypoints') for c in categories):
        others.append(annotation(93, category_id=72))
    found = read(tmp_path, *persons, *others, categories=categories)
    assert found.categories == expected and {p.category_id for p in found.persons} == kinds
    assert not found.ignored and found.omitted == {OTHER: len(others)}


def test_without_annotations_persons_are_the_category_of_that_name(tmp_path: Path) -> None:
    for categories, expected in (([dict(id=9, name='bicycle'), dict(id=3, name='person')], [3]), ([], [1])):
        (tmp_path / 'gt.json').write_text(json.dumps(dict(images=[image()], categories=categories)))
        assert read_annotations(tmp_path / 'gt.json', INFO).categories == expected


@pytest.mark.parametrize(('categories', 'words'), [
    ([category(1, *NAMES[::-1])], 'category 1 has .* in another order; give them in the order nose, left_ear, righ'),
    ([category(1, 'a', 'b'), category('dog', 'a')], r"no category has the 3 keypoints .* \(1 has 2, 'dog' has 1"),
    (['person'], 'malformed'), ([{'keypoints': ['a']}], "no key 'id'"), (None, 'malformed'),
])
def test_categories_that_do_not_fit_are_refused(tmp_path: Path, categories: list, words: str) -> None:
    with pytest.raises(InputError, match=f'gt.json: .*{words}'):
        read(tmp_path, annotation(), categories=categories)


def test_a_list_is_no_coco_file(tmp_path: Path) -> None:
    (tmp_path / 'gt.json').write_text('[]')
    with pytest.raises(InputError, match="a list, as MPII's annotations are"):
        read_annotations(tmp_path / 'gt.json', INFO)


def test_the_image_is_compared_with_its_annotated_size(tmp_path: Path) -> None:
    found = read(tmp_path, images=[image(), image(2, width=None)])
    for image_id, shape in ((1, (80, 100, 3)), (2, (7, 7, 3))):
        found.check_size(image_id, np.zeros(shape, np.uint8), 'a.jpg')
    with pytest.raises(InputError, match=r'^a\.jpg: 80 x 100 pixels, but 100 x 80 by .*gt\.json; correct width'):
        found.check_size(1, np.zeros((100, 80, 3), np.uint8), 'a.jpg')


def whole(number: int, **changes: Any) -> dict[str, Any]:
    """An entry of COCO-WholeBody: a body of two keypoints, hands of three; the left is valid, the right is not."""
    return {**annotation(number, keypoints=[9] * 6), 'lefthand_valid': True, 'lefthand_kpts': POINTS,
            'lefthand_box': [8, 9, 25, 36], 'righthand_valid': False, 'righthand_kpts': [0] * 9,
            'righthand_box': [0, 0, 0, 0], **changes}


HANDS = dataclasses.replace(INFO, parts=('lefthand', 'righthand'))
BODY = dict(id=1, name='person', keypoints=['head', 'foot'])


def test_each_valid_hand_is_a_person_of_its_own(tmp_path: Path) -> None:
    moved = [4, 6, 1.5, 0, 0, 0, 5, 7, 0.3]
    found = read(tmp_path, whole(5), whole(7, righthand_valid=True, righthand_kpts=moved, righthand_box=[3, 5, 4, 4]),
                 whole(8, lefthand_valid=False), whole(9, iscrowd=1), info=HANDS, categories=[BODY])
    assert [(p.number, p.id, p.category_id) for p in found.persons] == [
        (1, '5 lefthand', 1), (2, '7 lefthand', 1), (3, '7 righthand', 1)]
    assert [p.box.tolist() for p in found.persons] == [[8, 9, 25, 36]] * 2 + [[3, 5, 4, 4]]
    assert [p.keypoints.ravel().tolist() for p in found.persons] == [POINTS, POINTS, moved]
    assert [p.area for p in found.persons] == pytest.approx([0.53 * 25 * 36] * 2 + [0.53 * 16]), "not the person's"
    assert [a.id for a in found.ignored] == ['9 lefthand'] and not found.remarks


def test_a_file_without_hands_has_them_as_persons(tmp_path: Path) -> None:
    hand = dict(id=1, name='hand', keypoints=list(INFO.joint_names))
    found = read(tmp_path, annotation(7), info=HANDS, categories=[hand])
    assert [p.id for p in found.persons] == [7] and found.persons[0].area == 900
    with pytest.raises(InputError, match='no category has the 3 keypoints'):
        read(tmp_path, whole(1), categories=[BODY])


def test_malformed_hands_are_named(tmp_path: Path) -> None:
    for change in (dict(lefthand_kpts=[1, 2]), dict(lefthand_kpts=None, righthand_kpts='x', righthand_valid=True),
                   dict(lefthand_box=[1, 2])):
        with pytest.raises(InputError, match=r'gt\.json: annotation 5 (left|right)hand is malformed'):
            read(tmp_path, whole(5, **change), info=HANDS)


def test_people_of_whom_crowdpose_sees_nothing_are_ignored(tmp_path: Path) -> None:
    """Its num_keypoints counts keypoints in view (label 2), and is no error."""
    entries = [annotation(1, num_keypoints=2), annotation(2, num_keypoints=0), annotation(3, drop=('num_keypoints',))]
    found = read(tmp_path, *entries, images=[image(crowdIndex=0.25)])
    assert [p.id for p in found.persons] == [1, 3] and [a.id for a in found.ignored] == [2] and not found.remarks
    assert found.images[1].crowd_index == 0.25
    assert [p.id for p in read(tmp_path, *entries).persons] == [1, 2, 3]
    with pytest.raises(InputError, match='image 1 is malformed'):
        read(tmp_path, images=[image(crowdIndex='much')])


def test_areas_that_are_not_to_be_used(tmp_path: Path) -> None:
    entries = [annotation(1), annotation(2, drop=('area',)), annotation(3, iscrowd=1)]
    found = read(tmp_path, *entries, info=dataclasses.replace(INFO, use_area=False))
    assert [a.area for a in (*found.persons, *found.ignored)] == [pytest.approx(0.53 * 30 * 40)] * 3
    assert not found.remarks
