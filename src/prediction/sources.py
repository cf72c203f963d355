"""Images, videos and cameras as sources of frames."""
from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from src.common.errors import InputError
from src.mmpose.image import read_image

IMAGE_SUFFIXES = frozenset({'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'})
VIDEO_SUFFIXES = frozenset({'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'})
DEFAULT_RATE = 30.0  # frames per second, for cameras and files whose own rate is unknown


@dataclass(frozen=True, eq=False)
class Source:
    """An image, a video or a camera; given twice, it is two.

    Attributes:
        path: the file; None for a camera.
        name: by which results call it: the path below the folder that was given, else the file's name.
        camera: its number, None for a file.
    """
    path: Path | None
    name: str
    camera: int | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is one image rather than a sequence of frames."""
        return self.path is not None and self.path.suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Frame:
    """An image to look at.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        source: where it is from.
        number: of the frame in a video, from 0; None for an image.
        rate: frames per second of its video.
    """
    image: np.ndarray
    source: Source
    number: int | None = None
    rate: float = DEFAULT_RATE


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """Return the images and videos that paths, folders (with all below them) and glob patterns name.

    Raises:
        InputError: one of them leads to nothing, or is no image or video by its suffix.
    """
    suffixes, sources = IMAGE_SUFFIXES | VIDEO_SUFFIXES, []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = [Source(file, file.relative_to(path).as_posix()) for file in sorted(path.rglob('*'))
                     if file.suffix.lower() in suffixes and file.is_file()]
        elif path.is_file():
            if path.suffix.lower() not in suffixes:
                raise InputError(f'{text}: neither an image nor a video by its suffix; the suffixes are '
                                 f'{" ".join(sorted(suffixes))}')
            files = [Source(path, path.name)]
        else:
            files = [Source(Path(file), Path(file).name) for file in sorted(glob.glob(text, recursive=True))
                     if Path(file).suffix.lower() in suffixes and Path(file).is_file()]
        if not files:
            raise InputError(f'{text}: no image or video there; check the path')
        sources += files
    return sources


def read_frames(source: Source) -> Iterator[Frame]:
    """Yield the image, or the frames of a video or camera.

    Raises:
        InputError: it can't be read.
    """
    if source.is_image:
        yield Frame(read_image(str(source.path)), source)
        return
    capture = cv2.VideoCapture(source.camera if source.path is None else str(source.path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 1 <= rate <= 1000 else DEFAULT_RATE
        number = 0
        while capture.isOpened():
            success, image = capture.read()
            if not success:
                break
            yield Frame(image, source, number, rate)
            number += 1
        if not number:
            raise InputError(f'{source.path or source.name}: no frame can be read; is it a whole video that OpenCV '
                             'knows?')
    finally:
        capture.release()


def count_frames(source: Source) -> int | None:
    """Return the number of frames by a source's header; None where it is not known."""
    if source.is_image:
        return 1
    if source.path is None:
        return None
    capture = cv2.VideoCapture(str(source.path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None
