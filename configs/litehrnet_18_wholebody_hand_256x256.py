"""Lite-HRNet-18 on hands, 256x256: COCO-WholeBody's 21 keypoints, a box per hand; for MMPose's weights or own data.

    python tools/predict.py hand.jpg --whole_image --checkpoint mmpose_litehrnet_18_wholebody_hand_256x256

Own data are files as for litehrnet_18_custom_256x192, a hand for a person. COCO-WholeBody's own files, which have both
hands in a person's entry, are not read.
"""
from configs.base import LITE_18, base_config
from configs.litehrnet_18_custom_256x192 import DATA

FINGERS = ('thumb', 'forefinger', 'middle_finger', 'ring_finger', 'pinky_finger')

dataset_info = dict(
    name='coco_wholebody_hand',
    joint_names=('wrist', *(f'{finger}{joint}' for finger in FINGERS for joint in range(1, 5))),
    flip_pairs=(),  # a mirrored left hand is a right one, keypoint by keypoint
    skeleton=tuple((tip - 1 if tip % 4 != 1 else 0, tip) for tip in range(1, 21)),
    sigmas=(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021,
            0.021, 0.032, 0.02, 0.019, 0.022, 0.031),
    upper_body=(),
)

config = base_config(LITE_18, dict(DATA, info=dataset_info), image_size=(256, 256), batch_size=32, half_body=False,
                     rotation=90, zoom=0.3, boxes='gt', nms='hard')
