"""The folder that drawn images and videos are written to."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path
from src.prediction.sources import Frame, Source


class OutputFolder:
    """A folder that receives an image or video for each source, under its name; a context manager.

    An image is written whole or not at all. A video gets its name when it ends, also when the program is stopped:
    then with the frames so far.

    Attributes:
        path: the folder.
    """

    def __init__(self, folder: Path, sources: Sequence[Source]) -> None:
        """Choose a file name for each source.

        Raises:
            InputError: a source would be overwritten.
        """
        self.path = folder
        self._targets: dict[Source, Path] = {}
        self._video: tuple[Source, cv2.VideoWriter, Path, tuple[int, int]] | None = None
        used = set()
        for source in sources:
            name = Path(source.name) if source.is_image else Path(source.name).with_suffix('.mp4')
            target, copy = folder / name, 1
            while target in used:
                copy += 1
                target = folder / name.with_name(f'{name.stem}_{copy}{name.suffix}')
            used.add(target)
            if source.path is not None and target.resolve() == source.path.resolve():
                raise InputError(f'{source.path}: would be overwritten; choose another --output')
            self._targets[source] = target

    def __enter__(self) -> OutputFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, frame: Frame, image: np.ndarray) -> None:
        """Write the drawn image of a frame; the frames of a video come one after the other.

        Raises:
            InputError: it can't be written.
        """
        target = self._targets[frame.source]
        if frame.number is None:
            self._close()
            with atomic_path(target) as path:
                if not cv2.imwrite(str(path), image):
                    raise InputError(f'{target}: cannot be written; is the disk full?')
            return
        if self._video is None or self._video[0] is not frame.source:
            self._close()
            self._open(frame, target)
        _, writer, _, size = self._video
        if image.shape[1::-1] != size:  # a camera or stream that changes its size half-way
            image = cv2.resize(image, size)
        writer.write(image)

    def _open(self, frame: Frame, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f'{target}: cannot be written ({error.strerror}); choose another --output') from error
        size = frame.image.shape[1::-1]
        temporary = target.with_name(f'.{target.stem}.{os.getpid()}.part{target.suffix}')
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter_fourcc(*'mp4v'), frame.rate, size)
        if not writer.isOpened():
            raise InputError(f'{target}: cannot be written, or this OpenCV has no MPEG-4 encoder')
        self._video = frame.source, writer, temporary, size

    def _close(self) -> None:
        if self._video is not None:
            source, writer, temporary, _ = self._video
            self._video = None
            writer.release()
            os.replace(temporary, self._targets[source])
