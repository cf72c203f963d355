"""tools/predict.py as a user runs it: pictures, folders, patterns, a video; boxes from everywhere."""
from __future__ import annotations

import functools
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.common.errors import InputError
from src.prediction import load_model
from src.prediction.sources import find_sources, read_frames
from tests.networks import save_small
from tests.prediction import onnx_files
from tests.prediction.figures import pedestrian, write_video
from tests.prediction.onnx_files import Thing
from tools import predict

ROOT = Path(__file__).resolve().parents[2]
SMALL = {'model.stage_modules': '1', 'model.stage_channels': '8,16', 'data.image_size': '64,64'}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp('network'), SMALL)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with pictures, one below another, and what is no picture."""
    folder = tmp_path / 'in'
    (folder / 'deeper').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('a.jpg', 'b.png', 'deeper/a.jpg'):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (90, 70, 3), np.uint8))
    (folder / 'notes.txt').write_text('no picture')
    return folder


def run(checkpoint: Path, output: Path, *argv: object) -> int:
    return predict.main([*map(str, argv), '--checkpoint', str(checkpoint), '--output', str(output), '--batch', '2'])


def results(output: Path) -> list[dict]:
    return json.loads((output / 'results.json').read_text())


def test_a_folder_keeps_its_names(checkpoint: Path, pictures: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / 'out' / 'made'
    assert run(checkpoint, output, pictures, '--whole_image', '--min_score', '-100') == 0
    assert 'frames/s' in capsys.readouterr().out
    written = {path.relative_to(output).as_posix() for path in output.rglob('*') if path.is_file()}
    assert written == {'a.jpg', 'b.png', 'deeper/a.jpg', 'results.json'}
    found = results(output)
    assert [entry['file_name'] for entry in found] == ['a.jpg', 'b.png', 'deeper/a.jpg']
    assert [entry['image_id'] for entry in found] == [1, 2, 3]
    image = cv2.imread(str(pictures / 'b.png'))
    expected = load_model(checkpoint, batch_size=2).predict(image, [[0, 0, 70, 90]])
    np.testing.assert_allclose(np.reshape(found[1]['keypoints'], (1, 17, 3)), expected, rtol=1e-4, atol=1e-3)
    assert not np.array_equal(cv2.imread(str(output / 'b.png')), image)  # drawn on


def test_patterns_single_files_and_equal_names(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / 'out'
    assert run(checkpoint, output, f'{pictures}/*.jpg', pictures / 'deeper' / 'a.jpg', '--whole_image') == 0
    assert {path.relative_to(output).as_posix() for path in output.rglob('*.*')} == {
        'in/a.jpg', 'deeper/a.jpg', 'results.json'}
    assert [entry['file_name'] for entry in results(output)] == ['in/a.jpg', 'deeper/a.jpg']
    assert run(checkpoint, output / 'twice', pictures / 'b.png', pictures / 'b.png', '--whole_image') == 0
    assert {path.name for path in (output / 'twice').iterdir()} == {'b.png', 'b_2.png', 'results.json'}


def test_a_video_keeps_rate_size_and_length(checkpoint: Path, tmp_path: Path) -> None:
    video, output = write_video(tmp_path / 'clip.avi', 5), tmp_path / 'out'
    assert run(checkpoint, output, video, '--whole_image', '--flip_test', 'false') == 0
    assert {path.name for path in output.iterdir()} == {'clip.mp4', 'results.json'}
    made = list(read_frames(find_sources([str(output / 'clip.mp4')], tmp_path)[0]))
    assert len(made) == 5 and made[0].image.shape == (64, 96, 3) and made[0].rate == pytest.approx(12.5)
    assert [(entry['file_name'], entry['frame']) for entry in results(output)] == [('clip.avi', n) for n in range(5)]


@pytest.mark.slow
def test_an_interrupted_video_is_closed(checkpoint: Path, tmp_path: Path) -> None:
    video, output = write_video(tmp_path / 'long.mp4', 9000), tmp_path / 'out'
    process = subprocess.Popen([sys.executable, str(ROOT / 'tools' / 'predict.py'), str(video), '--whole_image',
                                '--checkpoint', str(checkpoint), '--output', str(output)], stderr=subprocess.PIPE,
                               # A job in the background would ignore the signal.
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 300  # a busy machine takes long to import and compile
    while not list(output.glob('.long.*.part.mp4')):
        assert process.poll() is None and time.monotonic() < deadline, 'no frame was written'
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1].decode()
    assert (process.returncode, told) == (130, 'interrupted\n')
    assert {path.name for path in output.iterdir()} == {'long.mp4', 'results.json'}
    made = sum(1 for _ in read_frames(find_sources([str(output / 'long.mp4')], tmp_path)[0]))
    assert 0 < made < 9000 and len(results(output)) == made


def test_an_unreadable_file_is_named_and_left_out(checkpoint: Path, pictures: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture) -> None:
    (pictures / 'b.png').write_bytes(b'no picture')
    (pictures / 'c.mp4').write_bytes(b'no video')
    output = tmp_path / 'out'
    assert run(checkpoint, output, pictures, '--whole_image') == 1
    told = capsys.readouterr().err
    assert 'b.png: not a readable image' in told and 'c.mp4: no frame can be read' in told
    assert [entry['file_name'] for entry in results(output)] == ['a.jpg', 'deeper/a.jpg']
    assert not (output / 'b.png').exists() and not (output / 'c.mp4').exists()


# Boxes

def detection(box: list[float], score: float = 0.9, **place: object) -> dict:
    return {'bbox': box, 'score': score, 'category_id': 1, **place}


def test_boxes_by_file_name(checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'boxes.json'
    video = write_video(pictures / 'clip.mp4', 3)
    file.write_text(json.dumps([
        detection([1, 2, 30, 60], file_name='b.png'), detection([30, 2, 30, 60], file_name='elsewhere/b.png'),
        {**detection([0, 0, 9, 9], file_name='b.png'), 'category_id': 3},
        detection([5, 5, 40, 50], file_name=video.name, frame=1),
        detection([5, 5, 40, 50], file_name=video.name, frame='2'),
        detection([5, 5, 40, 50], file_name=video.name, frame=3)]))
    assert run(checkpoint, tmp_path / 'out', pictures, '--boxes', file, '--nms', 'none') == 0
    assert [(entry['file_name'], entry.get('frame')) for entry in results(tmp_path / 'out')] == [
        ('b.png', None), ('clip.mp4', 1), ('clip.mp4', 2)]
    assert len(list((tmp_path / 'out').rglob('*.*'))) == 5  # images without a person are there too
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'{file}: 3 of 6 boxes not used: 1 fit no input (elsewhere/b.png), 1 of another category than 1 (category 3), '
        '1 fit no frame that was looked at (clip.mp4, frame 3)')


def test_equal_names_in_several_folders(checkpoint: Path, tmp_path: Path) -> None:
    """Boxes and ids go to the image of their folder; the person's category is that of the annotations."""
    for folder in ('cam1', 'cam2', 'cam3'):
        (tmp_path / 'in' / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'in' / folder / '1.png'), np.zeros((60, 60, 3), np.uint8))
    (tmp_path / 'annotations.json').write_text(json.dumps({
        'images': [{'id': f'id {n}', 'file_name': rf'cam{n}\1.png'} for n in (1, 2, 3)], 'annotations': [],
        'categories': [{'id': 3, 'name': 'person', 'keypoints': list(load_model(checkpoint).info.joint_names)}]}))
    (tmp_path / 'boxes.json').write_text(json.dumps([
        {'bbox': [10, 10, 30, 10 * n], 'score': 1.0, 'category_id': 3, 'image_id': f'id {n}'} for n in (1, 2, 3)]))
    assert run(checkpoint, tmp_path / 'out', tmp_path / 'in', '--boxes', tmp_path / 'boxes.json', '--annotations',
               tmp_path / 'annotations.json') == 0
    found = [(r['file_name'], r['image_id'], r['category_id'], r['center'][1]) for r in results(tmp_path / 'out')]
    assert found == [(f'cam{n}/1.png', f'id {n}', 3, 10 + 5 * n) for n in (1, 2, 3)]
    assert run(checkpoint, tmp_path / 'out', tmp_path / 'in', '--whole_image', '--annotations',
               tmp_path / 'annotations.json') == 0
    assert {r['category_id'] for r in results(tmp_path / 'out')} == {3}


def test_the_output_folder_may_lie_in_the_input_folder(checkpoint: Path, pictures: Path) -> None:
    for _ in range(2):
        assert run(checkpoint, pictures / 'out', pictures, '--whole_image') == 0
        assert [r['file_name'] for r in results(pictures / 'out')] == ['a.jpg', 'b.png', 'deeper/a.jpg']


def test_a_video_from_a_web_server(checkpoint: Path, tmp_path: Path) -> None:
    write_video(tmp_path / 'clip.mp4', 4)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        assert run(checkpoint, tmp_path / 'out', f'{address}/clip.mp4', f'{address}/absent.mp4', '--whole_image') == 1
        server.shutdown()
    assert [(r['file_name'], r['frame']) for r in results(tmp_path / 'out')] == [('clip.mp4', n) for n in range(4)]
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'clip.mp4', 'results.json'}


def test_boxes_by_image_id(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    boxes, annotations = tmp_path / 'boxes.json', tmp_path / 'annotations.json'
    annotations.write_text(json.dumps({'images': [{'id': 77, 'file_name': 'b.png'},
                                                  {'id': 8, 'file_name': 'other.jpg'}]}))
    boxes.write_text(json.dumps([detection([1, 2, 30, 60], image_id=77), detection([1, 2, 30, 60], image_id=8),
                                 detection([1, 2, 30, 60], file_name='a.jpg')]))
    (pictures / 'deeper' / 'a.jpg').unlink()
    assert run(checkpoint, tmp_path / 'out', pictures, '--boxes', boxes, '--annotations', annotations) == 0
    assert [(entry['file_name'], entry['image_id']) for entry in results(tmp_path / 'out')] == [
        ('a.jpg', 78), ('b.png', 77)]
    with pytest.raises(InputError, match=r'detection 0 has no file_name; give --annotations'):
        run(checkpoint, tmp_path / 'out', pictures, '--boxes', boxes)


def test_the_same_person_twice_is_suppressed(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / 'boxes.json'
    file.write_text(json.dumps([detection([1, 2, 30, 60], file_name='b.png')] * 3))
    for nms, count in (('hard', 1), ('none', 3)):
        assert run(checkpoint, tmp_path / nms, pictures / 'b.png', '--boxes', file, '--nms', nms) == 0
        assert len(results(tmp_path / nms)) == count


@pytest.mark.slow
def test_opencvs_detector(checkpoint: Path, tmp_path: Path,
                         capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / 'one.png'), pedestrian())
    cv2.imwrite(str(tmp_path / 'none.png'), np.full((200, 200, 3), 128, np.uint8))
    assert run(checkpoint, tmp_path / 'out', tmp_path / 'one.png', tmp_path / 'none.png', '--detector', 'hog') == 0
    assert [entry['file_name'] for entry in results(tmp_path / 'out')] == ['one.png']
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert run(checkpoint, tmp_path / 'out', tmp_path / 'none.png') == 0
    printed = capsys.readouterr().out
    assert results(tmp_path / 'out') == [] and '--whole_image' in printed and 'pip install --no-deps' in printed


def test_a_detector_from_a_file(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    """b.png, 70 x 90, gets in as 75 x 96, so the box is from 28 to 84, of which 70 are there, and from 18.75 to 75."""
    graph = onnx_files.yolox([Thing(np.array([30.0, 20, 90, 80]), 0.9, 0)], (128, 96))
    net = onnx_files.save(tmp_path / 'net.onnx', graph, (1, 3, 96, 128))
    for score, count in ((0.3, 1), (0.95, 0)):
        output = tmp_path / f'out {score}'
        assert run(checkpoint, output, pictures / 'b.png', '--detector', net, '--min_box_score', score) == 0
        assert [entry['center'] for entry in results(output)] == [pytest.approx([49, 46.875], abs=0.01)] * count


# What is refused

@pytest.mark.parametrize(('argv', 'words'), [
    ([], '--webcam'),
    (['{in}', '--webcam', '0'], '--webcam'),
    (['{in}/nothing'], 'no image or video there'),
    (['{in}/notes.txt'], 'neither an image nor a video'),
    (['{in}', '--boxes', '{in}/absent.json'], 'absent.json'),
    (['{in}', '--boxes', '{in}/notes.txt'], 'not a JSON file'),
    (['{in}', '--annotations', '{in}/notes.txt'], 'not a JSON file'),
    (['{in}', '--batch', '0'], 'batch'),
    ([''], 'an input is empty text'),
    (['{in}', '--min_box_score', '-1'], '--min_box_score -1.0: must be at least 0'),
    (['{in}', '--keypoint_threshold', 'nan'], '--keypoint_threshold nan: must be a number'),
    (['{in}', '--detector', '{in}/b.png'], 'b.png: no ONNX file'),
    (['{in}', '--detector', 'yolo'], 'yolo: neither a file nor the name of a detector'),
    (['{in}', '--whole_image', '--output', '{in}'], 'would be overwritten'),
])
def test_bad_arguments(checkpoint: Path, pictures: Path, tmp_path: Path, argv: list[str], words: str) -> None:
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(InputError, match=words) as caught:
        predict.main([*(word.replace('{in}', str(pictures)) for word in argv), '--checkpoint', str(checkpoint),
                      *([] if '--output' in argv else ['--output', str(tmp_path / 'out')])])
    assert '\n' not in str(caught.value) and sorted(tmp_path.rglob('*')) == before


def test_a_camera_that_is_not_there(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(checkpoint, tmp_path / 'out', '--webcam', '63') == 1
    out, error = capsys.readouterr()
    assert out == '' and error == 'omitted: webcam63: no frame can be read; check the camera or the address\n'
