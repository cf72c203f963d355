"""Naive Lite-HRNet-18 (ShuffleNetV2 units, 30/60/120/240 channels) on COCO, 256x192; published AP 0.628."""
from configs.base import NAIVE_18
from configs.coco_base import coco_config

config = coco_config(NAIVE_18, image_size=(192, 256))
