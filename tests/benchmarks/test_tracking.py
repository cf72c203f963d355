"""The figures of tracked results: what is right scores full, a swap of identities, jitter and misses are counted."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tracking
from benchmarks.drawn_video import draw_video
from src.config import resolve
from src.synthetic.scene import Person
from tests.networks import save_small

SIGMAS = np.array(resolve({'device': 'CPU'}, {})[1]['data']['info']['sigmas'])


@pytest.fixture(scope='module')
def truth() -> list[list[Person]]:
    return [people for _, people in draw_video(7, 12, (160, 120), 2)]


def perfect(truth: list[list[Person]]) -> list[dict[str, Any]]:
    return [{'frame': frame, 'track_id': index + 1, 'keypoints': person.keypoints.ravel().tolist(), 'scale': [0.5, 0.5]}
            for frame, people in enumerate(truth) for index, person in enumerate(people) if person.area]


def test_perfect_results_have_no_fault(truth: list[list[Person]]) -> None:
    assert tracking.measure(perfect(truth), truth, SIGMAS) == pytest.approx(
        {'found': 1, 'switches': 0, 'identities': 2, 'error': 0, 'jitter': 0}, abs=1e-9)


def test_faults_are_counted(truth: list[list[Person]]) -> None:
    results = perfect(truth)
    for result in results:
        if result['frame'] >= 6:
            result['track_id'] = 3 - result['track_id']
        keypoints = np.reshape(result['keypoints'], (17, 3))
        keypoints[:, 0] += 2 if result['frame'] % 2 else -2
        result['keypoints'] = keypoints.ravel().tolist()
    found = tracking.measure([result for result in results if result['frame'] != 3], truth, SIGMAS)
    assert found['found'] == pytest.approx(11 / 12) and found['switches'] == 2
    assert found['error'] == pytest.approx(2) and found['jitter'] == pytest.approx(4)


@pytest.mark.slow
def test_the_whole_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = save_small(tmp_path, {'model.stage_modules': '1', 'model.stage_channels': '8,16',
                                       'data.image_size': '64,64'})
    assert tracking.main(['--checkpoint', str(checkpoint), '--frames', '3', '--persons', '2']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[every, smooth] for every in ('1', '5', '10') for smooth in ('False', 'True')]
