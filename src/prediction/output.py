"""The folder that drawn images and videos are written to, and the file of results."""
from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.files import create_temporary
from src.mmpose.image import IMAGE_SUFFIXES, write_image
from src.prediction.sources import VIDEO_SUFFIXES, Frame, Source, opencv_path

LONGEST_NAME = 255  # bytes, in the file systems of Linux


class OutputFolder:
    """A folder that receives an image or video for each source, under its name.

    An image is written whole or not at all. A video gets its name when it is closed, with the frames so far.
    """

    def __init__(self, path: Path, sources: Sequence[Source]) -> None:
        """Choose a file name for each source.

        Raises:
            InputError: a source would be overwritten.
        """
        self.path = path
        self._targets: dict[Source, Path] = {}
        self._video: tuple[cv2.VideoWriter, tuple[int, int], Path, Path] | None = None
        self._frames = 0  # of that video
        inputs, used = {source.path.resolve() for source in sources if source.path}, set()
        for source in sources:
            name, copy = PurePosixPath(source.name), 1
            suffix = name.suffix if source.is_image else '.mp4'
            stem = name.stem if name.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES else name.name
            target = path / name.with_name(_fit(stem, suffix))
            while target in used:
                copy += 1
                target = path / name.with_name(_fit(stem, f'_{copy}{suffix}'))
            used.add(target)
            if target.resolve() in inputs:
                raise InputError(f'{target}: an input, and would be overwritten; choose another --output')
            self._targets[source] = target

    def add(self, frame: Frame, image: np.ndarray) -> None:
        """Write the drawn image of a frame; the frames of a video come one after the other, with `close` behind them.

        Raises:
            InputError: it can't be written.
        """
        target = self._targets[frame.source]
        if frame.number is None:
            return write_image(target, image)
        if self._video is None:
            self._video, self._frames = _open(target, frame.rate, image.shape[1::-1]), 0
        writer, size = self._video[:2]
        if image.shape[1::-1] != size:  # a camera or stream that changes its size half-way
            image = cv2.resize(image, size)
        writer.write(image)
        self._frames += 1

    def close(self) -> None:
        """Finish the video that is being written, if there is one.

        Raises:
            InputError: it can't get its name.
        """
        if self._video is None:
            return
        writer, _, temporary, target = self._video
        self._video = None
        writer.release()
        written = cv2.VideoCapture(str(temporary))  # OpenCV says nothing when the disk is full
        try:
            if int(written.get(cv2.CAP_PROP_FRAME_COUNT)) < self._frames:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.replace(temporary, target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(f'{target}: cannot be written ({error.strerror}); choose another --output') from error
        finally:
            written.release()


class ResultFile:
    """A COCO result file that takes persons as they are found, and gets its name when it is closed.

    None of them is kept in memory, as a camera may run for days.
    """

    def __init__(self, path: Path) -> None:
        """Open a temporary file beside `path`.

        Raises:
            InputError: the folder can't be written to.
        """
        self._path, self._temporary = path, create_temporary(path)
        self._file, self._separator = self._temporary.open('w'), '['

    def add(self, persons: Sequence[dict[str, Any]]) -> None:
        """Write the persons of a frame.

        Raises:
            InputError: the disk is full.
        """
        try:
            for person in persons:
                self._file.write(self._separator + json.dumps(person, allow_nan=False))
                self._separator = ', '
        except OSError as error:
            raise self._fault(error) from error

    def close(self) -> None:
        """Give the file its name.

        Raises:
            InputError: the disk is full, or the name can't be had.
        """
        try:
            self._file.write('[]' if self._separator == '[' else ']')
            self._file.close()
            os.replace(self._temporary, self._path)
        except OSError as error:
            self.remove()
            raise self._fault(error) from error

    def remove(self) -> None:
        """Remove the temporary file; to be called where no frame was written."""
        with suppress(OSError):  # what is buffered and doesn't fit
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _fault(self, error: OSError) -> InputError:
        return InputError(f'{self._path}: cannot be written ({error.strerror}); make room or choose another --output')


def _fit(stem: str, ending: str) -> str:
    """Return a file name of both, the stem shortened to what a file system takes."""
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return stem + ending


def _open(target: Path, rate: float, size: tuple[int, int]) -> tuple[cv2.VideoWriter, tuple[int, int], Path, Path]:
    """Return a writer of MPEG-4 with its image size, the temporary file it writes to, and the target."""
    temporary = create_temporary(Path(opencv_path(target)))
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*'mp4v'), mpeg4_rate(rate), size)
    if not writer.isOpened():
        temporary.unlink(missing_ok=True)
        raise InputError(f'{target}: cannot be written as MPEG-4 with {size[0]} x {size[1]} pixels and {rate:g} frames '
                         'per second; convert the input, or choose another --output')
    return writer, size, temporary, target


def mpeg4_rate(rate: float) -> float:
    """Return the nearest rate that OpenCV can write as MPEG-4.

    It writes a decimal fraction of at most three places, whose numerator has 16 bits.

    Args:
        rate: frames per second, at most 65535.
    """
    return next(round(rate, places) for places in (3, 2, 1, 0) if round(rate * 10 ** places) < 2 ** 16)
