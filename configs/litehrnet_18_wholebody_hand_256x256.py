"""Lite-HRNet-18 on the hands of COCO-WholeBody (21 keypoints, a box per hand), 256x256: PCK, AUC and EPE.

    python eval.py --checkpoint mmpose_litehrnet_18_wholebody_hand_256x256
    python tools/predict.py hand.jpg --whole_image --checkpoint mmpose_litehrnet_18_wholebody_hand_256x256

Reads the entries of COCO-WholeBody's annotation files (lefthand_kpts, ...), or, where a file has none of these, plain
ones as for litehrnet_18_custom_256x192, a hand for a person.
Expect:  PCK@0.2 0.795, AUC 0.830, EPE 4.77 pixels (MMPose's model zoo). Not measured in this repository.
"""
from configs.base import LITE_18, base_config

FINGERS = ('thumb', 'forefinger', 'middle_finger', 'ring_finger', 'pinky_finger')

dataset_info = dict(
    name='coco_wholebody_hand',
    joint_names=('wrist', *(f'{finger}{joint}' for finger in FINGERS for joint in range(1, 5))),
    flip_pairs=(),  # a mirrored left hand is a right one, keypoint by keypoint
    skeleton=tuple((tip - 1 if tip % 4 != 1 else 0, tip) for tip in range(1, 21)),
    sigmas=(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021,
            0.021, 0.032, 0.02, 0.019, 0.022, 0.031),
    upper_body=(),
    parts=('lefthand', 'righthand'),
)

DATA = dict(
    type='coco', info=dataset_info,
    train_annotations='annotations/coco_wholebody_train_v1.0.json', train_images='train2017',
    val_annotations='annotations/coco_wholebody_val_v1.0.json', val_images='val2017', detections='detections.json')

config = base_config(LITE_18, DATA, image_size=(256, 256), batch_size=32, half_body=False, rotation=90, zoom=0.3,
                     boxes='gt', nms='hard')
config['eval']['metrics'] = ('PCK', 'AUC', 'EPE')
