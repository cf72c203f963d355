"""Naive Lite-HRNet-18 (ShuffleNetV2 units, 30/60/120/240 channels) on MPII, 256x256; not measured here."""
from configs.base import NAIVE_18
from configs.mpii_base import mpii_config

config = mpii_config(NAIVE_18)
