"""Lite-HRNet-30 on COCO, 256x192.

8 GPUs:  bash scripts/run_distributed_train_gpu.sh 8 0 --model_config litehrnet_30_coco_256x192
Expect:  AP 0.652 with detector boxes by the seed's recipe (8 V100, the seed's README); 0.672 by --recipe paper
         (the paper's table). Neither was measured in this repository.
"""
from configs.base import LITE_30
from configs.coco_base import coco_config

config = coco_config(LITE_30, image_size=(192, 256))
