"""A run goes on where one source fails, keeps few frames in memory, and is interrupted between two frames only."""
from __future__ import annotations

import json
import os
import re
import signal
import weakref
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.config import resolve
from src.prediction.boxes import Boxes, Detector, whole_image
from src.prediction.drawing import Style
from src.prediction.output import OutputFolder
from src.prediction.pose_model import IMAGES_AHEAD, PoseModel
from src.prediction.run import WRITTEN_BEHIND, PredictionRun
from src.prediction.sources import Frame, find_sources, read_frames
from tests.prediction.figures import write_video


def make_model(forward: Callable[[np.ndarray], np.ndarray] | None = None) -> PoseModel:
    """Return a model of 64 x 64 pixels whose network finds all keypoints in the middle."""
    config = resolve({'device': 'CPU'}, {'data.image_size': '64,64', 'eval.flip_test': 'false',
                                         'eval.batch_size': '4'})[1]
    heatmaps = np.zeros((4, 17, 16, 16), np.float32)
    heatmaps[:, :, 8, 8] = 1
    return PoseModel(forward or (lambda images: heatmaps), config)


def start(folder: Path, detect: Detector = whole_image, model: PoseModel | None = None, inputs: str = 'in',
          **more: Any) -> PredictionRun:
    """Run the model on the sources in `folder`; results go to `folder`/out."""
    sources = find_sources([str(folder / inputs)], folder / 'out')
    options = {'image_ids': {}, 'category_id': 1, 'nms': 'none', 'style': Style(), **more}
    prediction = PredictionRun(model or make_model(), sources, detect, OutputFolder(folder / 'out', sources), **options)
    prediction.run()
    return prediction


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / 'out/results.json').read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images and a video."""
    (tmp_path / 'in').mkdir()
    for name in ('a.png', 'b.png', 'd.png'):
        cv2.imwrite(str(tmp_path / 'in' / name), np.full((40, 40, 3), 99, np.uint8))
    write_video(tmp_path / 'in/c.avi', 5)
    return tmp_path


@pytest.mark.parametrize('crowd', [lambda n: 0, lambda n: int(n == 0), lambda n: 3 * (n % 20 == 0), lambda n: n % 7],
                         ids=['nobody', 'one first', 'few', 'many'])
def test_few_frames_are_in_memory_whoever_is_to_be_seen(tmp_path: Path, crowd: Callable[[int], int]) -> None:
    write_video(tmp_path / 'v.mp4', 120)
    seen, held = [], []

    def detect(frame: Frame) -> Boxes:
        seen.append(weakref.ref(frame.image))
        held.append(sum(image() is not None for image in seen))
        count = crowd(frame.number)
        return Boxes(np.tile([0, 0, 50, 50, 1.0], (count, 1)), [None] * count)

    prediction = start(tmp_path, detect, inputs='v.mp4')
    assert prediction.frames == 120 and prediction.persons == sum(map(crowd, range(120)))
    assert [r['frame'] for r in results(tmp_path)] == [n for n in range(120) for _ in range(crowd(n))]
    assert max(held) <= IMAGES_AHEAD + WRITTEN_BEHIND + 2, 'frames were kept'


def test_persons_have_the_category_of_their_box(folder: Path) -> None:
    def detect(frame: Frame) -> Boxes:
        return Boxes(np.array([[0, 0, 9, 9, 0.2], [1, 1, 30, 30, 0.9], [2, 2, 20, 20, 0.5]]), ['dog', 7, None])

    start(folder, detect, inputs='in/a.png', category_id=3, nms='hard')
    assert [r['category_id'] for r in sorted(results(folder), key=lambda r: r['score'])] == ['dog', 3, 7]


def test_images_without_an_id_get_one_that_is_free(folder: Path) -> None:
    sources = find_sources([str(folder / 'in')], folder / 'out')
    prediction = PredictionRun(
        make_model(), sources, whole_image, OutputFolder(folder / 'out', sources), nms=None, style=Style(),
        category_id=1, image_ids={sources[0]: 'text', sources[1]: 2 ** 61}, taken_ids=['text', 2 ** 61, str(2 ** 62)])
    prediction.run()
    ids = ['text', 2 ** 61, *(2 ** 62 + n for n in range(1, 7))]
    assert [r['image_id'] for r in results(folder)] == ids


def break_read(folder: Path) -> None:
    (folder / 'in/b.png').write_bytes(b'no image')


def break_target(folder: Path) -> None:
    (folder / 'out/b.png').mkdir(parents=True)


def opencv_fails(frame: Frame) -> Boxes:
    if frame.source.name == 'b.png':
        cv2.resize(frame.image, (0, 0))
    return whole_image(frame)


@pytest.mark.parametrize(('prepare', 'detect', 'words'), [
    (break_read, whole_image, 'in/b.png: not a readable image'),
    (break_target, whole_image, 'out/b.png: cannot be written'),
    (lambda folder: None, opencv_fails, r'in/b.png: OpenCV cannot process it \(.*scale.*\); convert it or scale it'),
], ids=['unreadable', 'unwritable', 'unprocessable'])
def test_a_source_that_fails_is_named_and_the_others_are_not_lost(
        folder: Path, prepare: Callable, detect: Detector, words: str, capsys: pytest.CaptureFixture) -> None:
    prepare(folder)
    prediction = start(folder, detect)
    error = capsys.readouterr().err
    assert error.count('\n') == error.count('omitted: ') == 1 and re.search(words, error)
    assert [source.name for source in prediction.failed] == ['b.png']
    assert [r['file_name'] for r in results(folder)] == ['a.png', *['c.avi'] * 5, 'd.png']
    assert {path.name for path in (folder / 'out').iterdir() if path.is_file()} == {
        'a.png', 'c.mp4', 'd.png', 'results.json'}


def test_a_network_that_gives_no_numbers_costs_that_image_alone(folder: Path, capsys: pytest.CaptureFixture) -> None:
    network = make_model().forward

    def forward(images: np.ndarray) -> np.ndarray:
        red, _, blue = images[:, :, 32, 32].T
        return np.where(((red > 2) & (blue < -1))[:, None, None, None], np.float32(np.nan), network(images))

    cv2.imwrite(str(folder / 'in/b.png'), np.full((40, 40, 3), (0, 0, 255), np.uint8))
    prediction = start(folder, model=make_model(forward))
    error = capsys.readouterr().err
    assert re.fullmatch('omitted: .*in/b.png: the network gives numbers that are not finite.*\n', error)
    assert [source.name for source in prediction.failed] == ['b.png']
    assert [r['file_name'] for r in results(folder)] == ['a.png', *['c.avi'] * 5, 'd.png']


@pytest.mark.parametrize('fail', ['open', 'close'])
def test_a_video_that_cannot_be_written_is_named(folder: Path, fail: str, capsys: pytest.CaptureFixture) -> None:
    if fail == 'open':
        writer = cv2.VideoWriter(str(folder / 'in/c.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 9, (1, 1))
        writer.write(np.zeros((1, 1, 3), np.uint8))
        writer.release()
    else:
        (folder / 'out/c.mp4').mkdir(parents=True)
    prediction = start(folder)
    assert 'c.mp4: cannot be written' in capsys.readouterr().err and len(prediction.failed) == 1
    assert {'a.png', 'b.png', 'd.png'} <= {r['file_name'] for r in results(folder)}
    assert not list((folder / 'out').glob('.*'))


def test_a_video_that_fails_half_way_keeps_its_frames_so_far(folder: Path, capsys: pytest.CaptureFixture) -> None:
    def detect(frame: Frame) -> Boxes:
        if frame.number == 3:
            cv2.resize(frame.image, (0, 0))
        return whole_image(frame)

    prediction = start(folder, detect)
    assert 'c.avi: OpenCV cannot process it' in capsys.readouterr().err
    assert [r['frame'] for r in results(folder) if r['file_name'] == 'c.avi'] == [0, 1, 2]
    assert len(list(read_frames(find_sources([str(folder / 'out/c.mp4')], folder)[0]))) == 3
    assert {source.name for source in prediction.completed} == {'a.png', 'b.png', 'd.png'}


def test_followed_persons_need_the_detector_in_every_nth_frame_only(folder: Path) -> None:
    looked = []

    def detect(frame: Frame) -> Boxes:
        looked.append((frame.source.name, frame.number))
        return whole_image(frame)

    prediction = start(folder, detect, detect_every=4, nms='hard')
    assert looked == [('a.png', None), ('b.png', None), ('c.avi', 0), ('c.avi', 4), ('d.png', None)]
    found = results(folder)
    assert [(r['file_name'], r.get('frame'), r.get('track_id')) for r in found] == [
        ('a.png', None, None), ('b.png', None, None), *(('c.avi', n, 1) for n in range(5)), ('d.png', None, None)]
    assert prediction.persons == len(found) == 8


def test_identities_begin_anew_in_each_video(tmp_path: Path) -> None:
    (tmp_path / 'in').mkdir()
    for name in ('a.mp4', 'b.mp4'):
        write_video(tmp_path / 'in' / name, 3)
    start(tmp_path)
    assert [(r['file_name'], r['track_id']) for r in results(tmp_path)] == [
        *[('a.mp4', 1)] * 3, *[('b.mp4', 1)] * 3]


def test_results_that_find_no_room_are_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*paths: Path) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('src.prediction.output.os.replace', no_room)
    with pytest.raises(InputError, match=r'results.json: cannot be written \(No space left.*make room'):
        start(folder, inputs='in/c.avi')
    assert not list((folder / 'out').glob('*.json')) and not list((folder / 'out').glob('.results*'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('place', ['network', 'writer'])
def test_an_interrupted_run_has_the_persons_of_the_frames_it_wrote(
        tmp_path: Path, number: signal.Signals, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the signal comes: a frame is in the video and in the results, or in neither."""
    write_video(tmp_path / 'v.mp4', 60)
    model, add, handlers = make_model(), OutputFolder.add, {}
    plain, calls = model.forward, []

    def interrupt(value: Any) -> Any:
        calls.append(value)
        if len(calls) == 5:
            os.kill(os.getpid(), number)
        return value

    if place == 'network':
        model.forward = lambda images: interrupt(plain(images))
    else:
        monkeypatch.setattr(OutputFolder, 'add', lambda *arguments: interrupt(add(*arguments)))
    for each in (signal.SIGINT, signal.SIGTERM):
        handlers[each] = signal.signal(each, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path, model=model, inputs='v.mp4')
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    frames = list(read_frames(find_sources([str(tmp_path / 'out/v.mp4')], tmp_path)[0]))
    assert 0 < len(frames) < 60 and [r['frame'] for r in results(tmp_path)] == list(range(len(frames)))
    assert len(frames) == 16 if place == 'network' else 5 <= len(frames) <= 6 + WRITTEN_BEHIND
