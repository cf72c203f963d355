"""Lite-HRNet-18 on your own data in COCO's format: its annotation file names keypoints, limbs and mirror pairs.

    python train.py --model_config litehrnet_18_custom_256x192 --data_root data/own --random_seed 0

Files relative to --data_root: annotations/train.json, annotations/val.json and images/, or what
--data.train_annotations etc. name. --data.info FILE names a JSON file with what the annotation file does not hold
(sigmas, upper_body) or has wrong; its keys are those of src.mmpose.dataset_info.DatasetInfo.
"""
from configs.base import LITE_18, base_config

DATA = dict(
    type='coco', info=None, train_annotations='annotations/train.json', train_images='images',
    val_annotations='annotations/val.json', val_images='images', detections='detections.json')

config = base_config(LITE_18, DATA, image_size=(192, 256), half_body=True, boxes='gt', nms='hard')
