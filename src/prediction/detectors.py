"""The detector that a user names: one of this project's, a published one, which is downloaded, or a file."""
from __future__ import annotations

from pathlib import Path

from src.common.errors import InputError, did_you_mean
from src.prediction.boxes import MIN_SCORE, Detector, hog_detector
from src.prediction.onnx_detector import OnnxDetector
from src.prediction.published_detectors import DETECTORS
from src.prediction.ssd import INSTALL, SsdLite, graph_file
from src.weights.download import LIST, fetch

OWN = ('ssdlite', 'hog')


def find_detector(name: str | None, min_score: float | None = None) -> Detector:
    """Return a detector.

    Args:
        name: `ssdlite`, `hog`, a published detector or a file; None for the best that is installed.
        min_score: boxes of a lower score are omitted; None: as suits the detector. HOG takes none.

    Raises:
        InputError: the name is none of these, a download fails, or the file is no detector.
    """
    if name == 'hog' or (name is None and graph_file() is None):
        if name is None:
            print(f"people are looked for with OpenCV's HOG detector, which finds few; a better one: {INSTALL}")
        return hog_detector()
    if name is None or name == 'ssdlite':
        return SsdLite() if min_score is None else SsdLite(min_score)
    path = Path(name)
    if name in DETECTORS and not path.is_file():
        path = fetch(DETECTORS[name])
    elif not path.is_file() and not path.suffix:
        hint = ' '.join(filter(None, (did_you_mean(name, [*OWN, *DETECTORS]),
                                      f'{", ".join(OWN)} are names, and those that `{LIST}` prints')))
        raise InputError(f'{name}: neither a file nor the name of a detector; {hint}')
    return OnnxDetector(path, MIN_SCORE if min_score is None else min_score)
