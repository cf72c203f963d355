"""Lite-HRNet-18 with a 128x96 input: a quarter of the work, for trials on a CPU.

CPU:     bash scripts/run_standalone_train.sh 0 --device CPU --model_config litehrnet_18_coco_128x96
"""
from configs.base import LITE_18
from configs.coco_base import small_config

config = small_config(LITE_18, batch_size=32)
