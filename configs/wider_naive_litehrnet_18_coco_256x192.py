"""Wider naive Lite-HRNet-18 (ShuffleNetV2 units, 40/80/160/320 channels) on COCO, 256x192; published AP 0.660."""
from configs.base import WIDER_NAIVE_18
from configs.coco_base import coco_config

config = coco_config(WIDER_NAIVE_18, image_size=(192, 256))
