"""The direct port computes what the network computes."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from benchmarks.direct_port import direct_port
from src.settings.build import build_network
from tests.networks import SIZE, mode, randomise


@pytest.mark.needs_mindspore('2.0', 'interpolate takes no size in 1.10')
def test_direct_port_gives_the_same_heatmaps() -> None:
    config = dict(data=dict(image_size=SIZE), model=dict(stage_modules=(1, 1), stage_channels=(8, 16, 32)))
    images, heatmaps = ms.Tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)), []
    with mode(ms.PYNATIVE_MODE):
        for build in (build_network, direct_port):
            network = build(config)
            randomise(network)
            network.set_train(False)
            heatmaps.append(network(images).asnumpy())
    assert np.ptp(heatmaps[0]) > 1
    np.testing.assert_allclose(*heatmaps, rtol=1e-4, atol=1e-4 * np.abs(heatmaps[0]).max())
