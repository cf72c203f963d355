"""What is written under which name."""
from __future__ import annotations

import os
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction.output import OutputFolder, mpeg4_rate
from src.prediction.sources import Frame, Source, find_sources, read_frames
from tests.prediction.figures import write_video

IMAGE = np.full((40, 60, 3), 90, np.uint8)


def source_of(name: str) -> Source:
    """Return a source of that name; its file is not needed."""
    return Source(name, ('in', name), Path('in', name))


def write(folder: OutputFolder, source: Source, rate: float | None = None, image: np.ndarray = IMAGE) -> None:
    """Write an image or, at a rate, a video of two frames."""
    for number in (0, 1) if rate else (None,):
        folder.add(Frame(image, source, number, rate or 0.0), image)
    folder.close()


@pytest.mark.parametrize('stem', ['跳' * 83, '😀' * 62, 'x' * 251, 'caf\udce9', 'a:b%d'])
def test_names_of_any_length_and_alphabet(tmp_path: Path, stem: str) -> None:
    sources = [source_of(f'{stem}.jpg'), source_of(f'{stem}.avi')]
    folder = OutputFolder(tmp_path, sources)
    for source in sources:
        if source.is_image:
            write(folder, source)
        elif '\udce9' not in stem:
            write(folder, source, rate=10.0)
        else:
            with pytest.raises(InputError, match='not UTF-8'):
                write(folder, source, rate=10.0)
    written = sorted(tmp_path.iterdir())
    assert len(written) == (1 if '\udce9' in stem else 2) and all(len(os.fsencode(p.name)) <= 255 for p in written)
    assert all(path.stem[:20] == stem[:20] and path.stat().st_size for path in written)


def test_equal_names_are_counted(tmp_path: Path) -> None:
    sources = [source_of(name) for name in ('a.jpg', 'a.jpg', 'c.avi', 'c.mov', 'x' * 251 + '.jpg', 'x' * 251 + '.jpg')]
    folder = OutputFolder(tmp_path, sources)
    for source in sources:
        write(folder, source, None if source.is_image else 5.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'a.jpg', 'a_2.jpg', 'c.mp4', 'c_2.mp4', 'x' * 249 + '_2.jpg', 'x' * 251 + '.jpg']


def test_no_input_is_overwritten_by_what_is_made_of_another(tmp_path: Path) -> None:
    for name in ('clip.avi', 'clip.mp4'):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r'clip.mp4: an input, and would be overwritten; choose another --output'):
        OutputFolder(tmp_path, find_sources([f'{tmp_path}/clip.*'], Path('out')))


@pytest.mark.parametrize('rate', [119.917, 119.88011988, 240.123, 1000.0, 0.01, 1 / 3, 59.94005994, 65.5361, 999.999])
def test_videos_of_any_rate_are_written(tmp_path: Path, rate: float) -> None:
    source = source_of('v.avi')
    write(OutputFolder(tmp_path, [source]), source, rate)
    made = cv2.VideoCapture(str(tmp_path / 'v.mp4')).get(cv2.CAP_PROP_FPS)
    assert made == pytest.approx(mpeg4_rate(rate)) == pytest.approx(rate, rel=1e-3, abs=0.005)


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    image, video = source_of('wide.jpg'), source_of('small.avi')
    folder = OutputFolder(tmp_path, [image, video])
    with pytest.raises((InputError, cv2.error)):  # a JPEG has 16 bits for its width
        write(folder, image, image=np.zeros((2, 70000, 3), np.uint8))
    with pytest.raises(InputError, match=r'small.mp4: cannot be written as MPEG-4 with 1 x 1 pixels and 10 frames'):
        write(folder, video, 10.0, np.zeros((1, 1, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    (tmp_path / 'small.mp4').mkdir()
    with pytest.raises(InputError, match=r'small.mp4: cannot be written \(Is a directory\)'):
        write(folder, video, 10.0)
    assert [path.name for path in tmp_path.iterdir()] == ['small.mp4']


def test_a_video_that_finds_no_room_is_named_and_the_one_before_it_stays(tmp_path: Path) -> None:
    source = source_of('small.avi')
    folder = OutputFolder(tmp_path, [source])
    (tmp_path / 'small.mp4').write_text('before')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match=r'small\.mp4: cannot be written \(No space left'):
            write(folder, source, 10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['before']


def test_frames_of_another_size_fit_the_video(tmp_path: Path) -> None:
    source = source_of('v.avi')
    folder = OutputFolder(tmp_path, [source])
    for number, image in enumerate((IMAGE, np.zeros((80, 20, 3), np.uint8))):
        folder.add(Frame(image, source, number, 10.0), image)
    folder.close()
    found = list(read_frames(find_sources([str(tmp_path)], Path('out'))[0]))
    assert [frame.image.shape for frame in found] == [(40, 60, 3)] * 2 and found[1].image.max() < 20


def test_a_stream_keeps_its_name(tmp_path: Path) -> None:
    write_video(tmp_path / 'x.mp4', 1)
    sources = find_sources(['rtsp://10.0.0.1', 'http://host/x.webm'], Path('out'))
    folder = OutputFolder(tmp_path / 'out', sources)
    for source in sources:
        write(folder, source, 5.0)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['10.0.0.1.mp4', 'x.mp4']
