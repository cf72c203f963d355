"""The sides that are not ours: MMPose's Lite-HRNet on PyTorch and runtimes of ONNX files, by a Python of their own."""
from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import nn
from worker import serve


def backbone_class() -> type[nn.Module]:
    """Return MMPose's LiteHRNet, without importing its other models and their requirements."""
    root = Path(importlib.import_module('mmpose').__file__).parent
    for name in ('models', 'models/backbones'):
        package = types.ModuleType('mmpose.' + name.replace('/', '.'))
        package.__path__ = [str(root / name)]
        sys.modules[package.__name__] = package
    return importlib.import_module('mmpose.models.backbones.litehrnet').LiteHRNet


def build_network(model: dict[str, Any]) -> nn.Module:
    """Return backbone and 1x1 head for the `model` section of one of our configurations."""
    modules, channels = model['stage_modules'], model['stage_channels']
    stages = len(modules)
    extra = dict(
        stem=dict(stem_channels=32, out_channels=32, expand_ratio=1), num_stages=stages, with_head=True,
        stages_spec=dict(
            num_modules=modules, num_branches=[s + 2 for s in range(stages)], num_blocks=[2] * stages,
            module_type=[model['module']] * stages, with_fuse=[True] * stages,
            reduce_ratios=[8 if model['module'] == 'LITE' else 1] * stages,
            num_channels=[channels[:s + 2] for s in range(stages)]))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone_class()(extra=extra, in_channels=3)
            self.final_layer = nn.Conv2d(channels[0], model['num_joints'], 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features = self.backbone(x)
            return self.final_layer(features[0] if isinstance(features, (list, tuple)) else features)

    network = Network()
    with torch.no_grad():  # signals keep about their size, see ours.py
        for name, parameter in network.named_parameters():
            if parameter.ndim == 4:
                parameter.normal_(0, (0.5 / parameter[0].numel()) ** 0.5)
            elif name.endswith('.bias'):
                parameter.normal_(0, 0.1)
    return network


def noise(image_size: list[int], batch: int) -> torch.Tensor:
    """Return noise in place of images (batch, 3, H, W)."""
    return torch.randn(batch, 3, image_size[1], image_size[0])


def in_mode(mode: str, network: nn.Module, images: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """Return network and images for `mode`: 'eager' (as they are), 'channels_last' or 'compiled' (by inductor)."""
    if mode == 'channels_last':
        return network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    return torch.compile(network) if mode == 'compiled' else network, images


def train(model: dict[str, Any], image_size: list[int], batch: int, mode: str = 'eager') -> Callable[[], float]:
    """Return one step: forward, mean squared error with target weights, backward, Adam."""
    network, images = in_mode(mode, build_network(model).train(), noise(image_size, batch))
    optimizer = torch.optim.Adam(network.parameters(), 2.5e-4)
    target = torch.rand(batch, model['num_joints'], image_size[1] // 4, image_size[0] // 4)
    weight = torch.ones(batch, model['num_joints'], 1, 1)

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(network(images) * weight, target * weight)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def forward(model: dict[str, Any], image_size: list[int], batch: int, mode: str) -> Callable[[], None]:
    """Return the inference as MMPose does it: eval mode, no gradients."""
    network, images = in_mode(mode, build_network(model).eval(), noise(image_size, batch))

    def run() -> None:
        with torch.no_grad():
            network(images)

    return run


def export(model: dict[str, Any], image_size: list[int], batch: int, file: str) -> Callable[[], None]:
    """Return the export of the network as ONNX for a fixed batch."""
    network = build_network(model).eval()
    return lambda: torch.onnx.export(network, (noise(image_size, batch),), file, dynamo=False, opset_version=17)


def onnxruntime(file: str) -> Callable[[], None]:
    """Return the run of any ONNX file of fixed shape through onnxruntime."""
    session = importlib.import_module('onnxruntime').InferenceSession(file, providers=['CPUExecutionProvider'])
    source = session.get_inputs()[0]
    images = np.random.default_rng(0).standard_normal(source.shape, np.float32)
    return lambda: session.run(None, {source.name: images}) and None


def openvino(file: str) -> Callable[[], None]:
    """Return the run of any ONNX file of fixed shape through OpenVINO, all cores on one batch.

    In float32, as onnxruntime computes; by itself it takes bfloat16 on processors that have it.
    """
    network = importlib.import_module('openvino').compile_model(
        file, 'CPU', {'PERFORMANCE_HINT': 'LATENCY', 'INFERENCE_PRECISION_HINT': 'f32'})
    request = network.create_infer_request()
    images = np.random.default_rng(0).standard_normal(tuple(network.input().shape), np.float32)
    return lambda: request.infer([images], share_inputs=True) and None


if __name__ == '__main__':
    serve(dict(train=train, forward=forward, export=export, onnxruntime=onnxruntime, openvino=openvino))
