"""PP-TinyPose of PaddleDetection (the wider naive network) on COCO, 256x192; published AP 0.688 with annotated boxes.

Crops and decoding are those that its weights score best with here (docs/deployment.md).
"""
from configs.base import WIDER_NAIVE_18
from configs.coco_base import coco_config

config = coco_config(WIDER_NAIVE_18, image_size=(192, 256), decoding='dark')
