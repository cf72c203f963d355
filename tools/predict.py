"""Finds the joints of the people in pictures, videos or a camera's stream, and draws them.

    python tools/predict.py holiday.jpg clips/ --checkpoint litehrnet_18_coco_256x192.pth --output predictions

Writes the pictures and videos (.mp4) with skeletons under their own names, and results.json in COCO's format with the
file names. The network looks at one person at a time, so somebody must say where people are: by default OpenCV's HOG
detector, which needs no download and is weak (whole, upright people that fill much of the picture); --boxes takes
those of any other detector; --whole_image does for pictures of one person.
An unreadable file among others is named and left out; the exit status is 1 then. Ctrl-C ends a camera's stream.
"""
from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, run
from src.mmpose.evaluation import NMS, select, write_results
from src.prediction.boxes import Boxes, from_file, hog, image_ids, whole_picture
from src.prediction.drawing import draw_poses
from src.prediction.media import Album, Frame, Source, count_frames, find_sources, frames
from src.prediction.pose_model import PoseModel, load_model
from src.settings.table import DEVICES


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', nargs='*', metavar='INPUT', help='pictures, videos, folders, "quoted/*.jpg" patterns')
    parser.add_argument('--webcam', type=int, metavar='N', help='take the camera of that number')
    parser.add_argument('--checkpoint', required=True, metavar='FILE', help='.ckpt, official .pth, .mindir or .onnx')
    parser.add_argument('--model_config', metavar='NAME', help='default: as the file, its config.json or its name says')
    parser.add_argument('--output', default='predictions', metavar='DIR', help='(default: predictions)')
    parser.add_argument('--device', choices=DEVICES, default='CPU', help='(default: CPU)')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--boxes', metavar='FILE', help='COCO detections (JSON) that say file_name, or image_id with '
                                                        '--annotations')
    source.add_argument('--whole_image', '--whole-image', action='store_true', help='one person, who fills the picture')
    source.add_argument('--detector', choices=('hog',), default='hog', help='weak, see above (default: hog)')
    parser.add_argument('--annotations', metavar='FILE', help='COCO annotations: the image ids of the files; without '
                                                              'it they are numbered')
    parser.add_argument('--min_box_score', type=float, default=0.3, metavar='S',
                        help='boxes of --boxes below it are left out (default: 0.3)')
    parser.add_argument('--min_score', type=float, default=0.3, metavar='S',
                        help='joints below it are not drawn (default: 0.3)')
    parser.add_argument('--flip_test', choices=('true', 'false'),
                        help='average with the mirrored picture, at twice the time (default: as configured)')
    parser.add_argument('--nms', choices=tuple(NMS), help='among the persons of a picture (default: as the '
                                                          'configuration says)')
    parser.add_argument('--batch', type=int, default=8, metavar='N', help='persons at a time (default: 8)')
    options = parser.parse_args(argv)
    if bool(options.inputs) == (options.webcam is not None):
        raise InputError('give pictures, videos or folders, or else --webcam N')
    return options


class Reader:
    """Frames of all sources with their boxes; what can't be read is told of and counted.

    Attributes:
        waiting: frames handed out and not taken back yet, in order.
        failed: files that could not be read.
    """

    def __init__(self, sources: list[Source], boxes: Boxes) -> None:
        """Nothing is read before `pictures` is."""
        self._sources, self._boxes = sources, boxes
        self.waiting: deque[Frame] = deque()
        self.failed = 0

    def pictures(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(image, boxes) of each frame."""
        for source in self._sources:
            try:
                for frame in frames(source):
                    self.waiting.append(frame)
                    yield frame.image, self._boxes(frame)
            except InputError as error:
                self.failed += 1
                tqdm.write(f'left out: {error}', file=sys.stderr)


def results_of(model: PoseModel, frame: Frame, image_id: Any, keypoints: np.ndarray, windows: np.ndarray,
               nms: str) -> list[dict[str, Any]]:
    """The persons of a frame after NMS, in COCO's format, with the file's name and the number of the frame."""
    settings = model.config['eval']
    persons = select(keypoints, windows, np.zeros(len(keypoints), int), np.arange(len(keypoints)),
                     sigmas=np.array(model.info.sigmas), visibility_threshold=settings['visibility_threshold'],
                     oks_threshold=settings['oks_threshold'], nms=nms)
    place = {} if frame.number is None else {'frame': frame.number}
    return [{**person, 'image_id': image_id, 'file_name': frame.source.name, **place} for person in persons]


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    sources = find_sources(options.inputs) or [Source(None, f'webcam{options.webcam}', options.webcam)]
    ids = image_ids(Path(options.annotations)) if options.annotations else {}
    boxes = (from_file(Path(options.boxes), ids, options.min_box_score) if options.boxes else
             whole_picture if options.whole_image else hog())
    output = Path(options.output)
    album, reader = Album(output, sources), Reader(sources, boxes)
    model = load_model(options.checkpoint, model_config=options.model_config, device=options.device,
                       batch_size=options.batch,
                       flip_test=None if options.flip_test is None else options.flip_test == 'true')
    nms, skeleton, names = options.nms or model.config['eval']['nms'], model.info.skeleton, model.info.joint_names
    counts = [count_frames(source) for source in sources]
    next_id = max([0, *(i for i in ids.values() if isinstance(i, int))]) + 1
    results: list[dict[str, Any]] = []
    model.predict(np.zeros((64, 64, 3), np.uint8), [[0, 0, 64, 64]])  # compiled now, so that the rate is true
    for number in (signal.SIGINT, signal.SIGTERM):  # of the first MindSpore's own handler makes the second
        signal.signal(number, signal.default_int_handler)
    done, began = 0, time.perf_counter()
    with album, tqdm(total=None if None in counts else sum(counts), unit='frame', disable=None) as bar, suppress(
            *([KeyboardInterrupt] if options.webcam is not None else [])):
        try:
            for keypoints, windows in model.predict_many(reader.pictures()):
                frame = reader.waiting.popleft()
                image_id = ids.get(Path(frame.source.name).name) if frame.number is None else None
                if image_id is None:
                    image_id, next_id = next_id, next_id + 1
                persons = results_of(model, frame, image_id, keypoints, windows, nms)
                points = np.array([person['keypoints'] for person in persons], np.float32).reshape(-1, len(names), 3)
                album.add(frame, draw_poses(frame.image, points, skeleton, names, options.min_score))
                results += persons
                done += 1
                bar.update()
        finally:
            if done:
                write_results(results, output / 'results.json')
    rate = done / (time.perf_counter() - began)
    print(f'{output}: {done} pictures and frames, {len(results)} persons, {rate:.1f} frames/s')
    if done and not results:
        print('no person was found: --boxes FILE takes those of a better detector, --whole_image needs none')
    return int(reader.failed > 0)


if __name__ == '__main__':
    run(main)
