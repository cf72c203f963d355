"""Lite-HRNet-18 on COCO, 256x192.

8 GPUs:  bash scripts/run_distributed_train_gpu.sh 8 0        (64 samples per GPU, 210 epochs)
Expect:  AP 0.626 with detector boxes by the seed's recipe (8 V100, the seed's README); 0.648 by --recipe paper
         (the paper's table). Neither was measured in this repository.
"""
from configs.base import LITE_18
from configs.coco_base import coco_config

config = coco_config(LITE_18, image_size=(192, 256))
