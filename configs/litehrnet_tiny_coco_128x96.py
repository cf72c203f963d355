"""Lite-HRNet with one module per stage and a 128x96 input: learns something in minutes on a CPU (scripts/run_demo.sh).

No published network; it shows that training, evaluation and export work.
"""
from configs.base import LITE_18
from configs.coco_base import small_config

config = small_config(dict(LITE_18, stage_modules=(1, 1, 1)), batch_size=16)
