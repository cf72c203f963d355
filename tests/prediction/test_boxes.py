"""Where detectors say that persons are."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

from src.prediction.boxes import hog_detector
from src.prediction.sources import Frame, Source
from tests.prediction.figures import pedestrian


@pytest.mark.parametrize('factor', [0.3, 1, 3])
def test_hog_finds_an_upright_figure_at_any_size(factor: float) -> None:
    image = cv2.resize(pedestrian(), None, fx=factor, fy=factor)
    (x, y, width, height, score), = hog_detector()(Frame(image, Source(None, 'drawn'))) / ([factor] * 4 + [1])
    assert x < 150 and x + width > 210 and y < 110 and y + height > 380 and 0.5 < score <= 1
    assert hog_detector()(Frame(np.full((60, 30, 3), 128, np.uint8), Source(None, 'empty'))).shape == (0, 5)
