"""Images, videos, cameras and streams as sources of frames."""
from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from src.common.errors import InputError
from src.common.look_ahead import look_ahead
from src.mmpose.image import IMAGE_SUFFIXES, read_image

VIDEO_SUFFIXES = frozenset({'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'})
READ_AHEAD = 8  # images
DEFAULT_RATE = 30.0  # frames per second, for cameras, streams and files whose own rate is unknown
USUAL_RATES = 1.0, 240.0  # what is beyond is rather the unit of a file's time stamps
POSSIBLE_RATES = 0.01, 1000.0


@dataclass(frozen=True, eq=False)
class Source:
    """An image, a video, a camera or a stream; given twice, it is two."""
    # By which results call it: the path below the folder that was given, else the file's name; with as many folders
    # more as tell it from the other sources.
    name: str
    parts: tuple[str, ...]  # its whole path (or host and path) by folders, of which the last ones are the name
    path: Path | None = None  # the file; None for a camera or stream
    address: int | str | None = None  # number of the camera or URL of the stream; None for a file

    def __str__(self) -> str:
        """Return what messages call it: the path, or the address without passwords and the like."""
        if isinstance(self.address, str):
            return re.sub(r'(?<=//)[^/]*@|\?.*', '', self.address)
        return str(self.path or self.name)

    @property
    def is_image(self) -> bool:
        """Return whether it is one image rather than a sequence of frames."""
        return self.path is not None and self.path.suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Frame:
    """An image to look at."""
    image: np.ndarray  # (H, W, 3) uint8, BGR
    source: Source
    number: int | None = None  # of the frame in a video, from 0; None for an image
    rate: float = DEFAULT_RATE  # frames per second of its video


def split_path(path: str) -> tuple[str, ...]:
    """Return the parts of a path, whether Linux or Windows wrote it."""
    return tuple(part for part in re.split(r'[\\/]', path) if part not in ('', '.'))


def camera(number: int) -> Source:
    """Return the camera of that number."""
    return Source(f'webcam{number}', (f'webcam{number}',), address=number)


def find_sources(inputs: Sequence[str], output: Path) -> list[Source]:
    """Return the images, videos and streams that paths, folders (with all below them), glob patterns and URLs name.

    Args:
        output: folder for what will be written: what lies in it is no input, unless an input names it or a file in it.

    Raises:
        InputError: an input leads to nothing, or is no image or video by its suffix.
    """
    sources = []
    for text in inputs:
        sources += [_stream(text)] if '://' in text else _files(text, output)
    return _tell_apart(sources)


def _stream(url: str) -> Source:
    try:
        host, path = urlsplit(url)[1:3]
    except ValueError as error:
        raise InputError(f'{url}: no address of a stream ({error})') from error
    parts = split_path(f'{host.rpartition("@")[2]}/{path}')
    if not parts:
        raise InputError(f'{url}: no address of a stream; give one such as rtsp://host/path')
    return Source(parts[-1], parts, address=url)


def _files(text: str, output: Path) -> list[Source]:
    """Return the files that a path, folder or pattern leads to."""
    suffixes, path, folder = IMAGE_SUFFIXES | VIDEO_SUFFIXES, Path(text), None
    try:
        if path.is_dir():
            folder, files = path, sorted(path.rglob('*'))
        elif path.is_file():
            if path.suffix.lower() not in suffixes:
                raise InputError(f'{text}: neither an image nor a video by its suffix; the suffixes are '
                                 f'{" ".join(sorted(suffixes))}')
            files = [path]
        else:
            files = [Path(file) for file in sorted(glob.glob(text, recursive=True))]
        files = [file for file in files if file.suffix.lower() in suffixes and file.is_file()]
    except OSError as error:
        raise InputError(f'{text}: cannot be read ({error.strerror}); check the path') from error
    own, named = output.resolve(), Path(re.split(r'[*?[]', text)[0]).resolve()
    if not path.is_file() and own != named and own not in named.parents:
        files = [file for file in files if own not in file.resolve().parents]
    if not files:
        raise InputError(f'{text}: no image or video there; check the path')
    return [Source(file.relative_to(folder).as_posix() if folder else file.name, split_path(os.path.abspath(file)),
                   file) for file in files]


def _tell_apart(sources: list[Source]) -> list[Source]:
    """Return the sources, those of equal names with as many folders before them as it takes for their names to differ.

    Equal names of one and the same file stay.
    """
    while True:
        namesakes = defaultdict(set)
        for source in sources:
            namesakes[source.name].add(source.parts)
        if all(len(paths) == 1 for paths in namesakes.values()):
            return sources
        sources = [replace(source, name='/'.join(source.parts[-2 - source.name.count('/'):]))
                   if len(namesakes[source.name]) > 1 else source for source in sources]


def opencv_path(path: Path) -> str:
    """Return a path as OpenCV's readers and writers of videos take it.

    It is absolute, as they take what stands before a colon for a kind of URL otherwise.

    Raises:
        InputError: it is no UTF-8, which ends the process in them.
    """
    text = os.path.abspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f'{path}: the name is not UTF-8, and OpenCV takes no other for a video; rename it') from None
    return text


def _open(source: Source) -> cv2.VideoCapture:
    # What OpenCV and FFmpeg can't open is reported in one line of our own; their variables may ask for more.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    if 'OPENCV_LOG_LEVEL' not in os.environ:
        cv2.setLogLevel(0)
    return cv2.VideoCapture(opencv_path(source.path) if source.path else source.address)


def read_frames(source: Source) -> Iterator[Frame]:
    """Yield the image, or the frames of a video, camera or stream.

    Raises:
        InputError: it can't be read.
    """
    if source.is_image:
        yield Frame(read_image(str(source.path)), source)
        return
    capture, number = _open(source), 0
    try:
        rate = _frame_rate(source, capture)
        while capture.isOpened():
            success, image = capture.read()
            if not success:
                break
            yield Frame(image, source, number, rate)
            number += 1
    finally:
        capture.release()
    if not number:
        raise InputError(f'{source}: no frame can be read; ' + (
            'is it a whole video that OpenCV knows?' if source.path else 'check the camera or the address'))


def read_ahead(sources: Sequence[Source], readers: ThreadPoolExecutor) -> Iterator[tuple[Source, Iterable[Frame]]]:
    """Return sources with their frames, see `read_frames`; the next images are being read meanwhile, by the readers."""
    def begin(source: Source) -> tuple[Source, Iterable[Frame]]:
        frames = read_frames(source)
        return source, _results_of(readers.submit(list, frames)) if source.is_image else frames

    return look_ahead(map(begin, sources), READ_AHEAD)


def _results_of(frames: Future[list[Frame]]) -> Iterator[Frame]:
    yield from frames.result()


def _frame_rate(source: Source, capture: cv2.VideoCapture) -> float:
    """Return the frames per second of what was opened.

    Where the header of a file has no length, as in the recordings of browsers, or an unusual rate, OpenCV guesses the
    rate. The time stamps tell the true mean.
    """
    rate = capture.get(cv2.CAP_PROP_FPS)
    usual = USUAL_RATES[0] <= rate <= USUAL_RATES[1]
    if source.path is None or (usual and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0):
        return rate if usual else DEFAULT_RATE
    scan, times = _open(source), []
    while scan.grab():
        times.append(scan.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    scan.release()
    rate = (len(times) - 1) / (times[-1] - times[0]) if times and times[-1] > times[0] else DEFAULT_RATE
    return rate if POSSIBLE_RATES[0] <= rate <= POSSIBLE_RATES[1] else DEFAULT_RATE


def count_frames(source: Source) -> int | None:
    """Return the number of frames by a file's header; None where it is not known."""
    if source.is_image:
        return 1
    count = 0.0
    if source.path:
        with suppress(InputError):
            count = _open(source).get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e9 else None
