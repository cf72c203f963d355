import numpy as np
import pytest

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.mmpose.dataset_info import DatasetInfo


def test_flip_index_exchanges_left_and_right() -> None:
    info = DatasetInfo.from_dict(dataset_info)
    flipped = np.array(info.joint_names)[info.flip_index]
    expected = [{'l': 'right' + name[4:], 'r': 'left' + name[5:]}.get(name[0], name) for name in info.joint_names]
    assert flipped.tolist() == expected
    assert info.num_joints == 17 and info.flip_index.dtype == np.int64


@pytest.mark.parametrize('changes, word', [
    (dict(sigmas=(0.1,) * 16), 'sigmas'),
    (dict(sigmas=(0.1,) * 16 + (0.0,)), 'sigmas'),
    (dict(sigmas=0.1), 'float'),
    (dict(flip_pairs=((1, 2), (2, 3))), 'flip_pairs'),
    (dict(flip_pairs=((1, 2, 3),)), 'unpack'),
    (dict(skeleton=((0, 17),)), 'skeleton'),
    (dict(upper_body=(-1,)), 'upper_body'),
    (dict(joint_names=('nose',) * 17), 'joint_names'),
    (dict(simgas=()), "'simgas' is unknown"),
])
def test_wrong_values_are_named(changes: dict, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        DatasetInfo.from_dict({**dataset_info, **changes})
    assert '\n' not in str(caught.value)


def test_missing_key_is_named() -> None:
    values = {key: value for key, value in dataset_info.items() if key != 'upper_body'}
    with pytest.raises(InputError, match="'upper_body' is missing"):
        DatasetInfo.from_dict(values)
