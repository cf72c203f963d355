"""Lite-HRNet-30 on MPII, 256x256.

8 GPUs:  bash scripts/run_distributed_train_gpu.sh 8 0 --model_config litehrnet_30_mpii_256x256 --data_root data/mpii
Expect:  PCKh@0.5 87.0 with --recipe paper (the paper's table). Not measured in this repository.
"""
from configs.base import LITE_30
from configs.mpii_base import mpii_config

config = mpii_config(LITE_30)
