"""Pictures, videos and cameras in; pictures and videos out."""
from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.files import atomic_path
from src.mmpose.image import read_image

PICTURES = frozenset({'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'})
VIDEOS = frozenset({'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'})
USUAL_RATE = 30.0  # frames per second, of cameras and files that don't know theirs


@dataclass(frozen=True, eq=False)
class Source:
    """A picture, a video or a camera; given twice, it is two.

    Attributes:
        path: the file; None for a camera.
        name: by which results call it: the path below the folder that was given, else the file's name.
        camera: its number, None for a file.
    """
    path: Path | None
    name: str
    camera: int | None = None

    @property
    def is_picture(self) -> bool:
        """Whether it is one picture and no row of frames."""
        return self.path is not None and self.path.suffix.lower() in PICTURES


@dataclass(frozen=True)
class Frame:
    """A picture to look at.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        source: where it is from.
        number: of the frame in a video, from 0; None for a picture.
        rate: frames per second of its video.
    """
    image: np.ndarray
    source: Source
    number: int | None = None
    rate: float = USUAL_RATE


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """The pictures and videos that paths, folders (with all below them) and glob patterns name.

    Raises:
        InputError: one of them leads to nothing, or is no picture or video by its suffix.
    """
    found = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = [Source(file, file.relative_to(path).as_posix()) for file in sorted(path.rglob('*'))
                     if file.suffix.lower() in PICTURES | VIDEOS and file.is_file()]
        elif path.is_file():
            if path.suffix.lower() not in PICTURES | VIDEOS:
                raise InputError(f'{text}: neither a picture nor a video by its suffix; the suffixes are '
                                 f'{" ".join(sorted(PICTURES | VIDEOS))}')
            files = [Source(path, path.name)]
        else:
            files = [Source(Path(file), Path(file).name) for file in sorted(glob.glob(text, recursive=True))
                     if Path(file).suffix.lower() in PICTURES | VIDEOS and Path(file).is_file()]
        if not files:
            raise InputError(f'{text}: no picture or video there; check the path')
        found += files
    return found


def frames(source: Source) -> Iterator[Frame]:
    """The picture, or the frames of a video or camera.

    Raises:
        InputError: it can't be read.
    """
    if source.is_picture:
        yield Frame(read_image(str(source.path)), source)
        return
    capture = cv2.VideoCapture(source.camera if source.path is None else str(source.path))
    try:
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 1 <= rate <= 1000 else USUAL_RATE
        number = 0
        while capture.isOpened():
            good, image = capture.read()
            if not good:
                break
            yield Frame(image, source, number, rate)
            number += 1
        if not number:
            raise InputError(f'{source.path or source.name}: no frame can be read; is it a whole video that OpenCV '
                             'knows?')
    finally:
        capture.release()


def count_frames(source: Source) -> int | None:
    """How many frames a source has, as far as its header says; None where nobody knows."""
    if source.is_picture:
        return 1
    if source.path is None:
        return None
    capture = cv2.VideoCapture(str(source.path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


class Album:
    """A folder that pictures and videos are written to, under their own names; a context manager.

    A picture is written whole or not at all. A video gets its name when it ends, also when the program is stopped:
    then with the frames so far.
    """

    def __init__(self, folder: Path, sources: Sequence[Source]) -> None:
        """Chooses a name for what is made of each source.

        Raises:
            InputError: a source would be overwritten.
        """
        self._targets: dict[Source, Path] = {}
        self._video: tuple[Source, cv2.VideoWriter, Path, tuple[int, int]] | None = None
        used = set()
        for source in sources:
            name = Path(source.name) if source.is_picture else Path(source.name).with_suffix('.mp4')
            target, copy = folder / name, 1
            while target in used:
                copy += 1
                target = folder / name.with_name(f'{name.stem}_{copy}{name.suffix}')
            used.add(target)
            if source.path is not None and target.resolve() == source.path.resolve():
                raise InputError(f'{source.path}: would be overwritten; choose another --output')
            self._targets[source] = target

    def __enter__(self) -> Album:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, frame: Frame, picture: np.ndarray) -> None:
        """Writes what was made of a frame; the frames of a video come one after the other.

        Raises:
            InputError: it can't be written.
        """
        target = self._targets[frame.source]
        if frame.number is None:
            self._close()
            with atomic_path(target) as path:
                if not cv2.imwrite(str(path), picture):
                    raise InputError(f'{target}: cannot be written; is the disk full?')
            return
        if self._video is None or self._video[0] is not frame.source:
            self._close()
            self._open(frame, target)
        _, writer, _, size = self._video
        if picture.shape[1::-1] != size:  # a camera or stream that changes its size half-way
            picture = cv2.resize(picture, size)
        writer.write(picture)

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
