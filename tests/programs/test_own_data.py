"""Train on your own keypoints, as the README tells it: a user's files, no source edited."""
from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest

import eval as eval_program
import export as export_program
import train as train_program
from src.common.errors import InputError
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import BACKENDS, evaluate
from src.mmpose.own_data import resolve_info
from src.weights.checkpoint import load_network
from tests.animals import make_animals
from tests.networks import FREE_MINDIR, tiny
from tools import draw_predictions

NAME = 'litehrnet_18_custom_256x192'


@pytest.fixture(scope='module')
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_animals(tmp_path_factory.mktemp('mice') / 'own', 6, 4)


def common(data_root: Path, output: Path, *more: str) -> list[str]:
    return ['--device', 'CPU', '--data_root', str(data_root), '--output_root', str(output), '--experiment_tag', 'mice',
            '--workers', '1', '--model_config', NAME, '--model.stage_modules', '1', '--model.stage_channels', '8,16',
            '--data.image_size', '64,64', *more]


@pytest.fixture(scope='module')
def trained(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp('trained')
    assert train_program.main(common(animals, output, '--train.epochs', '1', '--train.batch_size', '4',
                                     '--random_seed', '0')) == 0
    return output


def test_joints_come_from_the_annotations(trained: Path) -> None:
    folder = trained / 'checkpoints' / 'mice'
    assert ('mouse: 4 keypoints (nose, L_Ear, R_Ear, tail_base), mirror pairs: 1, mirrored onto themselves: nose, '
            'tail_base; no upper body') in (folder / 'train.log').read_text()
    config = json.loads((folder / 'config.json').read_text())['config']
    assert config['model']['num_joints'] == 4 and config['data']['info']['flip_pairs'] == [[1, 2]]
    assert ms.load_checkpoint(str(folder / f'{NAME}.ckpt'))['keypoint_head.final_layer.weight'].shape[0] == 4


@pytest.mark.slow
@FREE_MINDIR
def test_evaluated_exported_and_drawn(trained: Path, animals: Path, tmp_path: Path) -> None:
    results, metrics, net, sheet = (tmp_path / name for name in ('r.json', 'm.json', 'net.mindir', 'sheet.png'))
    assert eval_program.main(common(animals, trained, '--results_json', str(results), '--metrics_json',
                                    str(metrics))) == 0
    assert json.loads(metrics.read_text())['boxes'] == 'gt'
    found = json.loads(results.read_text())
    assert found and all(len(r['keypoints']) == 12 and r['category_id'] == 3 for r in found)
    assert export_program.main(common(animals, trained, '--output', str(net))) == 0 and net.stat().st_size
    assert draw_predictions.main(['--results', str(results), '--annotations', str(animals / 'annotations/val.json'),
                                  '--images', str(animals / 'images'), '--model_config', NAME, '--min_score', '-1',
                                  '--output', str(sheet)]) == 0
    assert cv2.imread(str(sheet)) is not None


@pytest.mark.slow
@FREE_MINDIR
def test_exported_without_the_data_by_the_saved_settings(trained: Path, tmp_path: Path) -> None:
    folder, net = trained / 'checkpoints' / 'mice', tmp_path / 'net.mindir'
    assert export_program.main(['--config', str(folder / 'config.json'), '--data_root', str(tmp_path / 'absent'),
                                '--output', str(net)]) == 0
    heatmaps = ms.nn.GraphCell(ms.load(str(net)))(ms.ops.zeros((1, 3, 64, 64), ms.float32))
    assert heatmaps.shape == (1, 4, 16, 16)


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_truth_itself_scores_one(animals: Path, backend: str) -> None:
    """Category 3, and neither area, iscrowd nor num_keypoints in the file."""
    pytest.importorskip(backend)
    file = animals / 'annotations/val.json'
    truth = read_annotations(file, DatasetInfo.from_dict(resolve_info(None, [file])))
    results = [dict(image_id=a['image_id'], category_id=3, score=1.0, keypoints=a['keypoints'])
               for a in json.loads(file.read_text())['annotations']]
    assert evaluate(results, truth, sigmas=np.full(4, 0.05), backend=backend)['AP'] == pytest.approx(1)
    wrong = [{**r, 'keypoints': (np.array(r['keypoints']) + 9).tolist()} for r in results]
    assert evaluate(wrong, truth, sigmas=np.full(4, 0.05), backend=backend)['AP'] < 0.5


def test_a_file_of_further_facts(animals: Path, trained: Path, tmp_path: Path) -> None:
    info, metrics = tmp_path / 'info.json', tmp_path / 'm.json'
    info.write_text(json.dumps(dict(sigmas=9.0)))
    options = common(animals, trained, '--data.info', str(info), '--eval.nms', 'none', '--metrics_json', str(metrics),
                     '--results_json', str(tmp_path / 'r.json'))
    assert eval_program.main(options) == 0
    assert json.loads(metrics.read_text())['AP'] > 0.9, 'with so large sigmas everything is right'
    for content, words in (('[1]', 'not a JSON object'), ('{"sigma": 1}', "'sigma' is unknown"), ('{', 'not a JSON')):
        info.write_text(content)
        with pytest.raises(InputError, match=words):
            eval_program.main(options)


def test_sides_without_a_partner_turn_the_flip_test_off(animals: Path, trained: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    info, metrics = tmp_path / 'info.json', tmp_path / 'm.json'
    info.write_text(json.dumps(dict(joint_names=['nose', 'linkes_Ohr', 'ear_R', 'tail'])))
    assert eval_program.main(common(animals, trained, '--data.info', str(info), '--metrics_json', str(metrics),
                                    '--results_json', str(tmp_path / 'r.json'))) == 0
    assert json.loads(metrics.read_text())['flip_test'] is False
    line, = re.findall(r'.*flipping is off.*', capsys.readouterr().out)
    assert 'no mirror partner found for linkes_Ohr, ear_R; give flip_pairs by --data.info' in line


@pytest.mark.parametrize(('more', 'words'), [
    (('--data.train_annotations', 'a.json', '--data.val_annotations', 'b.json'), 'a.json'),
    (('--model.num_joints', '5'), 'num_joints 5: the data have 4 keypoints'),
    (('--data.info', 'nowhere.json'), 'nowhere.json'),
    (('--boxes', 'det'), r'detections.json: no such detection file; .*--boxes gt'),
])
def test_what_is_missing_is_one_line(animals: Path, trained: Path, more: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        eval_program.main(common(animals, trained, *more))
    assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_fine_tuning_keeps_all_but_the_last_layer(animals: Path, trained: Path, synthetic: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture) -> None:
    """Mice to people: four joints to seventeen."""
    start = trained / 'checkpoints' / 'mice' / f'{NAME}.ckpt'
    people = [*common(synthetic, tmp_path), '--train.epochs', '1', '--train.batch_size', '4', '--learning_rate', '0',
              '--checkpoint_path', str(start), '--max_steps', '1']
    people[people.index(NAME)] = 'litehrnet_18_coco_256x192'
    assert train_program.main(people) == 0
    line = re.search(r'.*starts untrained.*', capsys.readouterr().out)
    assert line and 'has 4 keypoints, this training 17: keypoint_head.final_layer' in line[0]
    before = ms.load_checkpoint(str(start))
    after = ms.load_checkpoint(str(tmp_path / 'checkpoints/mice/litehrnet_18_coco_256x192.ckpt'))
    assert after['keypoint_head.final_layer.weight'].shape[0] == 17
    for name, value in before.items():
        if not name.startswith(('keypoint_head.',)) and 'moving' not in name:
            np.testing.assert_array_equal(after[name].asnumpy(), value.asnumpy(), err_msg=name)
    with pytest.raises(InputError, match=r'4 keypoints.*17 keypoints'):
        eval_program.main([*(p for p in people[:people.index('--train.epochs')]), '--checkpoint', str(start)])


def test_another_backbone_is_still_refused(trained: Path) -> None:
    with pytest.raises(InputError, match='choose the model_config'):
        load_network(tiny(num_joints=17), trained / 'checkpoints' / 'mice' / f'{NAME}.ckpt', new_head=True)
