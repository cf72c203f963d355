"""What paths, folders, patterns and addresses lead to, and how it is read."""
from __future__ import annotations

import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction.sources import DEFAULT_RATE, READ_AHEAD, count_frames, find_sources, read_ahead, read_frames
from tests.prediction.figures import write_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one more in a folder below, and what is no image."""
    for name in ('a.jpg', 'b.png', 'deeper/a.jpg', 'notes.txt'):
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'in'


def names(*inputs: object, output: Path = Path('elsewhere')) -> list[str]:
    return [source.name for source in find_sources(list(map(str, inputs)), output)]


def test_sources_of_a_folder_are_sorted_and_named_by_their_place(folder: Path) -> None:
    assert names(folder) == ['a.jpg', 'b.png', 'deeper/a.jpg']
    assert names(folder / 'b.png', f'{folder}/deeper/*') == ['b.png', 'a.jpg']


def test_equal_names_are_told_apart_by_their_folders(folder: Path) -> None:
    assert names(f'{folder}/**/a.jpg') == ['in/a.jpg', 'deeper/a.jpg']
    assert names(folder, folder / 'deeper') == ['in/a.jpg', 'b.png', 'deeper/a.jpg', 'deeper/a.jpg']
    assert names(folder / 'a.jpg', folder / 'a.jpg') == ['a.jpg', 'a.jpg']


def test_the_output_is_no_input_unless_it_is_named(folder: Path) -> None:
    output = folder / 'deeper'
    assert names(folder, output=output) == ['a.jpg', 'b.png'] == names(f'{folder}/**/*.*', output=output)
    assert names(f'{output}/*.jpg', output=output) == ['a.jpg'] == names(output, output=output)
    assert names(output / 'a.jpg', output=output) == ['a.jpg']
    with pytest.raises(InputError, match='no image or video there'):
        names(f'{folder}/*/*', output=output)


@pytest.mark.parametrize('text', ['', 'x' * 300, 'x' * 300 + '/*.jpg'])
def test_a_name_that_no_file_can_have_is_an_error_of_one_line(folder: Path, text: str) -> None:
    with pytest.raises(InputError, match=r'check the path$'):
        names(f'{folder}/{text}/none')


def test_streams_are_named_by_the_end_of_their_address() -> None:
    sources = find_sources(['rtsp://user:secret@10.0.0.1:554/front/stream?q=1', 'rtsp://user:secret@10.0.0.2/back/stream',
                            'http://h/a.mp4', 'udp://@239.0.0.1:1234'], Path('out'))
    assert [source.name for source in sources] == ['front/stream', 'back/stream', 'a.mp4', '239.0.0.1:1234']
    assert str(sources[0]) == 'rtsp://10.0.0.1:554/front/stream' and sources[0].address.startswith('rtsp://user:secret@')
    for text in ('http://', 'http://[1'):
        with pytest.raises(InputError, match='no address of a stream'):
            names(text)


@pytest.mark.parametrize('name', ['a:b.mp4', 'http:x.mp4', 'clip%03d.mp4', 'file:1.avi', '[1].mp4', '50% #?.mp4'])
def test_videos_may_have_names_that_look_like_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            name: str) -> None:
    write_video(tmp_path / 'plain.mp4', 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    source, = find_sources([name], Path('out'))
    assert [frame.number for frame in read_frames(source)] == [0, 1, 2] and count_frames(source) == 3


def test_a_video_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """OpenCV ends the process with a segmentation fault."""
    write_video(tmp_path / 'plain.mp4', 3).rename(tmp_path / os.fsdecode(b'caf\xe9.mp4'))
    source, = find_sources([str(tmp_path)], Path('out'))
    with pytest.raises(InputError, match='not UTF-8'):
        next(read_frames(source))
    assert count_frames(source) is None


def test_what_is_not_there_is_one_line_of_our_own() -> None:
    """In a process of its own, as FFmpeg is told once for all whether it may write."""
    code = """if True:
        import sys
        from pathlib import Path
        from src.common.errors import InputError
        from src.prediction.sources import camera, find_sources, read_frames
        print('imported|', file=sys.stderr, flush=True)
        for source in [camera(63), *find_sources(['rtsp://127.0.0.1:9/stream', 'http://127.0.0.1:9/a.mp4'], Path())]:
            try:
                next(read_frames(source))
            except InputError as error:
                print(error)
        print('|read', file=sys.stderr, flush=True)
    """
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    ending = 'no frame can be read; check the camera or the address'
    assert process.stderr.split('|')[1] == '\n' and process.stdout.splitlines() == [
        f'{name}: {ending}' for name in ('webcam63', 'rtsp://127.0.0.1:9/stream', 'http://127.0.0.1:9/a.mp4')]


# Frame rates

def write_browser_video(path: Path, times: list[int]) -> Path:
    """Write WebM as browsers do: frames at these milliseconds, and no length, rate or duration of a frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'VP80'), 10, (96, 64))
    for number in range(len(times)):
        writer.write(np.full((64, 96, 3), 10 * number, np.uint8))
    writer.release()
    data = bytearray(path.read_bytes())
    for element in (b'\x23\xe3\x83', b'\x44\x89'):  # DefaultDuration, Duration: made Void
        start = data.index(element)
        length = len(element) + 1 + (data[start + len(element)] & 0x7f)
        data[start:start + length] = bytes([0xEC, 0x80 | length - 2]) + bytes(length - 2)
    position = data.index(b'\x1f\x43\xb6\x75')  # Cluster
    for number, time in enumerate(times):
        position = data.index(b'\xa3', position)  # SimpleBlock
        size = 9 - data[position + 1].bit_length()
        block = position + 1 + size
        assert data[block] == 0x81 and struct.unpack('>h', data[block + 1:block + 3])[0] == 100 * number
        data[block + 1:block + 3] = struct.pack('>h', time)
        position = block + (int.from_bytes(data[position + 1:block], 'big') & (1 << 7 * size) - 1)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(('times', 'claim', 'rate'), [
    ([0, 101, 221, 336, 401, 540, 580, 702, 803, 880, 1040, 1090, 1180, 1290, 1430, 1480, 1640, 1690, 1770, 1860],
     1000, 19 / 1.86),
    ([0, 50, 83, 117, 134, 168, 202, 218, 268, 301, 335, 368, 385, 418, 435, 485, 518, 535, 568, 584],
     None, 19 / 0.584),
], ids=['the header says 1000', 'the header guesses'])
def test_the_time_stamps_tell_the_rate_that_the_header_does_not_know(tmp_path: Path, times: list[int],
                                                                    claim: int | None, rate: float) -> None:
    path = write_browser_video(tmp_path / 'browser.webm', times)
    header = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    assert abs(header - rate) > 5 and (claim is None or header == claim), 'this is no example of the fault'
    source, = find_sources([str(path)], Path('out'))
    found = list(read_frames(source))
    assert len(found) == 20 and found[0].rate == pytest.approx(rate) and count_frames(source) is None


@pytest.mark.parametrize(('rate', 'count', 'expected'), [
    (0.5, 4, 0.5), (240.0, 4, 240), (1000.0, 5, 1000), (29.97, 3, 29.97), (1000.0, 1, DEFAULT_RATE)])
def test_unusual_rates_that_are_true_are_kept(tmp_path: Path, rate: float, count: int, expected: float) -> None:
    write_video(tmp_path / 'v.mp4', count, rate=rate)
    assert next(read_frames(find_sources([str(tmp_path)], Path('out'))[0])).rate == pytest.approx(expected, rel=1e-3)


def test_some_images_are_read_ahead_and_come_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        cv2.imwrite(str(tmp_path / f'{number:02}.png'), np.full((4, 4, 3), number, np.uint8))
    write_video(tmp_path / '07.mp4', 3)
    read, taken = [], []
    monkeypatch.setattr('src.prediction.sources.read_image', lambda path: read.append(path) or cv2.imread(path))

    with ThreadPoolExecutor(2) as readers:
        for source, frames in read_ahead(find_sources([str(tmp_path)], tmp_path / 'out'), readers):
            found = list(frames)
            assert all(frame.source is source for frame in found)
            taken.append((source.name, len(found), found[0].image[0, 0, 0]))
            assert len(read) <= len(taken) + READ_AHEAD
    images = [(f'{number:02}.png', 1, number) for number in range(30)]
    assert [entry for entry in taken if entry[0] != '07.mp4'] == images and taken[7][:2] == ('07.mp4', 3)


def test_an_image_that_cannot_be_read_ahead_fails_in_its_turn(tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / '1.png').write_bytes(b'no image')
    with ThreadPoolExecutor(1) as readers:
        first, second, third = read_ahead(find_sources([str(tmp_path)], tmp_path / 'out'), readers)
        assert len(list(first[1])) == len(list(third[1])) == 1
        with pytest.raises(InputError, match=r'1\.png: not a readable image'):
            list(second[1])
