"""Kernels for training on a CPU, compiled on the machine they run on; without a compiler MindSpore's own are used."""
