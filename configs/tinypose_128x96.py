"""PP-TinyPose of PaddleDetection on COCO, 128x96; published AP 0.581 with annotated boxes. See tinypose_256x192."""
from configs.base import WIDER_NAIVE_18
from configs.coco_base import coco_config

config = coco_config(WIDER_NAIVE_18, image_size=(96, 128), sigma=1, decoding='dark')
