"""Lite-HRNet-18 on your own data in COCO's format: joints, limbs and mirror pairs are read from its annotation file.

    python train.py --model_config litehrnet_18_custom_256x192 --data_root data/own --random_seed 0

Files below --data_root are annotations/train.json, annotations/val.json and images/, unless --data.train_annotations
and its like say otherwise. --data.info FILE names a JSON file with what no annotation file tells (sigmas, upper_body)
or tells wrongly; its keys are those of src.mmpose.dataset_info.DatasetInfo.
"""
from configs.base import LITE_18, base_config

config = base_config(
    LITE_18,
    dict(type='coco', info=None, train_annotations='annotations/train.json', train_images='images',
         val_annotations='annotations/val.json', val_images='images', detections='detections.json'),
    image_size=(192, 256), half_body=True, boxes='gt', nms='hard')
