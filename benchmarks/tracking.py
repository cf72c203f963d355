"""Persons followed through a drawn video: identities kept, jitter, accuracy, speed.

    bash scripts/run_demo.sh    # trains the network for drawn figures
    python benchmarks/tracking.py --checkpoint demo/checkpoints/demo/litehrnet_tiny_coco_128x96.ckpt

The detector is a stand-in of known faults: the true boxes, a third of them missed and the rest off by some pixels; the
time of SSDLite on the same frames is spent where that is installed. A figure is found in a frame where a person's OKS
with it is 0.5 or more; the one of its identity so far goes first. Its identity switches where its track_id is another
than when it was found before (as in CLEAR MOT: K. Bernardin, R. Stiefelhagen, 2008). Jitter is the median movement of
the still figure's keypoints from one frame to the next, error the mean distance to the true ones.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.drawn_video import draw_video
from src.common.errors import run
from src.mmpose.nms import oks
from src.prediction import load_model
from src.prediction.boxes import Boxes, Detector
from src.prediction.drawing import Style
from src.prediction.output import OutputFolder
from src.prediction.run import PredictionRun
from src.prediction.sources import Frame, find_sources
from src.prediction.ssd import SsdLite, graph_file
from src.synthetic.scene import Person

SIZE, RATE, SEED = (640, 360), 25.0, 3
MISSED, OFF = 1 / 3, 0.05  # share of boxes; standard deviation of their edges as a share of their sides


def faulty_detector(truth: Sequence[Sequence[Person]], spend_time: bool) -> Detector:
    """Return a detector that misses boxes and is off by a little, at the cost of SSDLite."""
    rng = np.random.default_rng(SEED)
    network = SsdLite(0.3) if spend_time and graph_file() else None

    def detect(frame: Frame) -> Boxes:
        if network:
            network(frame)
        boxes = np.array([[*person.box, 0.9] for person in truth[frame.number] if person.area and
                          rng.random() > MISSED], np.float64).reshape(-1, 5)
        boxes[:, :4] += rng.normal(0, OFF, (len(boxes), 4)) * boxes[:, [2, 3, 2, 3]]
        return Boxes(boxes, [None] * len(boxes))
    return detect


def measure(results: Sequence[dict[str, Any]], truth: Sequence[Sequence[Person]], sigmas: np.ndarray
            ) -> dict[str, float]:
    """Return the figures of tracked results; see the top of this file."""
    by_frame = defaultdict(list)
    for result in results:
        by_frame[result['frame']].append(result)
    identities: dict[int, int] = {}
    found = switches = visible = 0
    distances, still = [], {}
    for number, people in enumerate(truth):
        visible += sum(person.area > 0 for person in people)
        persons = by_frame[number]
        if not persons:
            continue
        points = np.array([person['keypoints'] for person in persons]).reshape(len(persons), -1, 3)
        areas = np.array([np.prod(person['scale']) * 200 ** 2 for person in persons])
        similarity = np.array([oks(person.keypoints, points, float(areas.mean()), areas, sigmas) * (person.area > 0)
                               for person in people])
        same = np.array([[identities.get(index) == person['track_id'] for person in persons]
                         for index in range(len(people))])
        for index, row in zip(*linear_sum_assignment(-similarity - 10 * (same & (similarity >= 0.5)))):
            if similarity[index, row] < 0.5:
                continue
            found += 1
            switches += identities.get(index, persons[row]['track_id']) != persons[row]['track_id']
            identities[index] = persons[row]['track_id']
            seen = people[index].keypoints[:, 2] == 2
            distances += np.linalg.norm((points[row] - people[index].keypoints)[seen, :2], axis=1).tolist()
            if index == 0:
                still[number] = np.where(seen[:, None], points[row, :, :2], np.nan)
    moves = [np.linalg.norm(still[number] - still[number - 1], axis=1) for number in still if number - 1 in still]
    return {'found': found / visible, 'switches': switches,
            'identities': len({result['track_id'] for result in results}),
            'error': float(np.mean(distances)) if distances else np.nan,
            'jitter': float(np.nanmedian(moves)) if moves else np.nan}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', required=True, metavar='FILE', help='a network for drawn figures')
    parser.add_argument('--frames', type=int, default=250, metavar='N', help='(default: 250)')
    parser.add_argument('--persons', type=int, default=4, metavar='N', help='(default: 4)')
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        video, truth = Path(folder) / 'walk.mp4', []
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'mp4v'), RATE, SIZE)
        for image, people in draw_video(SEED, options.frames, SIZE, options.persons, RATE):
            writer.write(image)
            truth.append(people)
        writer.release()
        sources = find_sources([str(video)], Path(folder) / 'out')
        print('detect every  smooth  found  switches  identities  error px  jitter px  frames/s')
        models = {batch: load_model(options.checkpoint, batch_size=batch) for batch in (1, 8)}
        for every in (1, 5, 10):
            model = models[8 if every == 1 else 1]
            model.predict(np.zeros((64, 64, 3), np.uint8), [[0, 0, 64, 64]])  # compiled now, so that the rate is true
            for smooth in (False, True):
                prediction = PredictionRun(model, sources, faulty_detector(truth, spend_time=True),
                                           OutputFolder(Path(folder) / 'out', sources), image_ids={}, category_id=1,
                                           nms=None, style=Style(), detect_every=every, smooth=smooth)
                began = time.perf_counter()
                prediction.run()
                rate = options.frames / (time.perf_counter() - began)
                row = measure(json.loads((Path(folder) / 'out/results.json').read_text()), truth,
                              np.array(model.info.sigmas))
                print(f'{every:12}  {smooth!s:>6}  {row["found"]:5.1%}  {row["switches"]:8}  '
                      f'{row["identities"]:10}  {row["error"]:8.2f}  {row["jitter"]:9.2f}  {rate:8.1f}')
    return 0


if __name__ == '__main__':
    run(main)
