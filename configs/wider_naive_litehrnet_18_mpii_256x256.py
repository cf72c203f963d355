"""Wider naive Lite-HRNet-18 (ShuffleNetV2 units, 40/80/160/320 channels) on MPII, 256x256; not measured here."""
from configs.base import WIDER_NAIVE_18
from configs.mpii_base import mpii_config

config = mpii_config(WIDER_NAIVE_18)
