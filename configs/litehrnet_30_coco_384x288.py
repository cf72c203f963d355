"""Lite-HRNet-30 on COCO, 384x288 (published AP 0.704; not measured in this repository)."""
from configs.base import LITE_30
from configs.coco_base import coco_config

config = coco_config(LITE_30, image_size=(288, 384), sigma=3, batch_size=32)
