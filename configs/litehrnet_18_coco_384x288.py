"""Lite-HRNet-18 on COCO, 384x288 (published AP 0.676; not measured in this repository)."""
from configs.base import LITE_18
from configs.coco_base import coco_config

config = coco_config(LITE_18, image_size=(288, 384), sigma=3, batch_size=32)
