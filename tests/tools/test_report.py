"""tools/report.py as a user runs it, and its page in a browser."""
from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs.coco_base import dataset_info
from src.common.errors import InputError
from src.mmpose.annotations import read_annotations
from src.mmpose.dataset_info import DatasetInfo
from src.mmpose.evaluation import evaluate
from tests import browser
from tests.report.test_curves import make_run
from tools import report

# Elements that stand on each other's text, or reach out of the window; and the sizes of what must be seen.
LAYOUT = '''
const box = e => e.getBoundingClientRect();
const texts = [...document.querySelectorAll('h1, h2, h3, p, dt, dd, figcaption, caption, th, td, a')];
const overlaps = [];
for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
  if (texts[i].contains(texts[j]) || texts[j].contains(texts[i])) continue;
  const a = box(texts[i]), b = box(texts[j]);
  if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
      Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2)
    overlaps.push([texts[i].textContent, texts[j].textContent]);
}
const chartTexts = [];
for (const svg of document.querySelectorAll('figure svg')) {
  const all = [...svg.querySelectorAll('text')].filter(e => e.textContent.trim());
  for (let i = 0; i < all.length; i++) for (let j = i + 1; j < all.length; j++) {
    const a = box(all[i]), b = box(all[j]);
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
      chartTexts.push([all[i].textContent, all[j].textContent]);
  }
}
const size = query => [...document.querySelectorAll(query)].map(e => [box(e).width, box(e).height]);
return {inner: window.innerWidth, width: document.documentElement.scrollWidth, overlaps, chartTexts,
        charts: size('figure svg'), images: size('figure img'), tables: size('table'),
        ink: getComputedStyle(document.body).color,
        labels: [...document.querySelectorAll('figure svg text')].map(e => getComputedStyle(e).fill),
        fonts: [...document.querySelectorAll('figure svg text')].map(e => box(e).height)};
'''


class Page(HTMLParser):
    """Headings, ids, pictures and tables of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source, self.tags, self.links = path.read_text(), [], []
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def options(folder: Path, data: Path, *more: str) -> list[str]:
    return ['--results', str(folder / 'results_det.json'), '--annotations',
            str(data / 'annotations' / 'person_keypoints_val2017.json'), '--images', str(data / 'val2017'),
            '--output', str(folder / 'report.html'), *more]


@pytest.fixture(scope='module')
def folder(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results (the truth, shaken; one person left out, one made up), their metrics, two trainings and the report."""
    where, rng = tmp_path_factory.mktemp('report'), np.random.default_rng(0)
    annotations = synthetic / 'annotations' / 'person_keypoints_val2017.json'
    results = []
    for annotation in json.loads(annotations.read_text())['annotations'][1:]:
        joints = np.array(annotation['keypoints'], float).reshape(-1, 3)
        joints[:, :2] += rng.normal(0, 2, (17, 2))
        joints[:, 2] = 0.9
        results.append(dict(image_id=annotation['image_id'], category_id=1, score=float(rng.uniform(0.5, 1)),
                            keypoints=joints.ravel().tolist()))
    results.append({**results[0], 'score': 0.3})
    (where / 'results_det.json').write_text(json.dumps(results))
    info = DatasetInfo.from_dict(dataset_info)
    figures = evaluate(results, read_annotations(annotations, info), sigmas=np.array(info.sigmas))
    (where / 'metrics_det.json').write_text(json.dumps(
        {**figures, 'boxes': 'det', 'flip_test': True, 'decoding': 'dark', 'nms': 'hard',
         'model_config': 'litehrnet_tiny_coco_128x96', 'checkpoint': 'a <b> & c.ckpt'}))
    runs = [str(make_run(where / name)) for name in ('first', 'second')]
    assert report.main(options(where, synthetic, '--training', *runs, '--count', '3')) == 0
    return where


def test_page_says_what_was_evaluated(folder: Path) -> None:
    page, metrics = Page(folder / 'report.html'), json.loads((folder / 'metrics_det.json').read_text())
    text = re.sub(r'<[^>]*>', ' ', page.source)
    for name in ('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL'):
        assert f'<dt>{name}</dt><dd>{metrics[name]:.3f}</dd>' in page.source or metrics[name] < 0
    for pair in ('<dt>boxes</dt><dd>det (the detector&#39;s)</dd>', '<dt>flip test</dt><dd>on</dd>',
                 '<dt>decoding</dt><dd>dark</dd>'):
        assert pair in page.source
    assert 'a &lt;b&gt; &amp; c.ckpt' in page.source and 'litehrnet_tiny_coco_128x96' in text
    assert re.search(r'missed</th><td>1</td>', page.source)
    assert re.search(r'background false positives</th><td>1</td>', page.source)


def test_page_needs_nothing_from_elsewhere_and_is_well_formed(folder: Path) -> None:
    page = Page(folder / 'report.html')
    names = {'href', 'src', 'xlink:href', 'action', 'data', 'srcset'}
    links = [value for _, attributes in page.tags for key, value in attributes.items() if key in names]
    assert links and all(link.startswith(('#', 'data:image/')) for link in links)
    assert not page.of('script') and 'url(http' not in page.source and '@import' not in page.source
    ids = [attributes['id'] for _, attributes in page.tags if 'id' in attributes]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith('#')} <= set(ids)
    assert all(image['alt'] for image in page.of('img')) and all(svg['aria-label'] for svg in page.of('svg'))
    assert [tag for tag, _ in page.tags if re.fullmatch('h[1-6]', tag)][:2] == ['h1', 'h2']


def test_curves_kinds_persons_and_trainings_are_there(folder: Path) -> None:
    page = Page(folder / 'report.html')
    assert {section['id'] for section in page.of('section')} == {'scores', 'precision-recall', 'keypoints', 'errors',
                                                                 'persons', 'training'}
    assert len(page.of('svg')) == 1 + 2 + 1 + 4 and len(page.of('table')) == 3
    for image in page.of('img'):
        assert len(image['src']) < 120_000
    for text in ('>first<', '>second<', 'mean of OKS 0.50 to 0.95', '>inversion<', '>left ankle<'):
        assert text in page.source


@browser.NEEDED
@pytest.mark.parametrize('width', [1280, 500])
def test_browser_shows_all_of_it_without_complaint(folder: Path, width: int, tmp_path: Path) -> None:
    found = browser.measure(folder / 'report.html', LAYOUT, width, tmp_path)
    assert found['inner'] == width and found['width'] <= width, 'the page is wider than the window'
    assert not found['overlaps'] and not found['chartTexts']
    assert len(found['charts']) == 8 and all(w > 300 and h > 150 for w, h in found['charts'])
    assert found['images'] and all(w > 150 and h > 50 for w, h in found['images'])
    assert len(found['tables']) == 3 and all(w > 150 and h > 50 for w, h in found['tables'])
    assert min(found['fonts']) > 8 and set(found['labels']) == {found['ink']}


@browser.NEEDED
@pytest.mark.parametrize(('scheme', 'dark'), [(1, False), (0, True)])
def test_screenshot_in_light_and_dark(folder: Path, scheme: int, dark: bool, tmp_path: Path) -> None:
    setting = f'--blink-settings=preferredColorScheme={scheme}'
    _, complaints = browser.browse(folder / 'report.html', f'--screenshot={tmp_path / "shot.png"}', setting,
                                  '--window-size=900,1400')
    picture = cv2.imread(str(tmp_path / 'shot.png'), cv2.IMREAD_GRAYSCALE)
    assert not complaints and picture.shape == (1400, 900) and picture.std() > 10
    assert (np.median(picture) < 60) == dark
    # Text of the other end of the scale, in the heading and in the charts.
    assert (picture[:60].max() > 180) if dark else (picture[:60].min() < 80)


@pytest.mark.parametrize('config', ['[]', '{"experiment": {"model_config": "another"}, "config": {}}',
                                    '{"experiment": {"model_config": "litehrnet_tiny_coco_128x96"}, "config": {}}'])
def test_a_config_of_something_else_beside_the_results(config: str, folder: Path, synthetic: Path,
                                                       tmp_path: Path) -> None:
    for name in ('results_det.json', 'metrics_det.json'):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / 'config.json').write_text(config)
    assert report.main(options(tmp_path, synthetic)) == 0
    assert 'Evaluation of litehrnet_tiny_coco_128x96' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('named', ['by the annotations', 'by a file', 'by a configuration'])
def test_other_joints(named: str, tmp_path: Path) -> None:
    names, joints = ['head', 'paw_left', 'paw_right', 'tail'], [20, 20, 2, 10, 50, 2, 30, 50, 2, 40, 30, 1]
    config = 'litehrnet_18_custom_256x192'
    if named == 'by a configuration':
        config, joints = 'litehrnet_18_mpii_256x256', [v for i in range(16) for v in (3 * i + 5, 2 * i + 15, i > 5)]
    category = dict(id=1, name='beast', keypoints=names if named == 'by the annotations' else [], skeleton=[[1, 2]])
    (tmp_path / 'info.json').write_text(json.dumps(dict(joint_names=names, sigmas=0.03)))
    (tmp_path / 'results.json').write_text(json.dumps([dict(image_id=1, category_id=1, score=0.9, keypoints=joints)]))
    (tmp_path / 'truth.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='a.png', width=64, height=64)], categories=[category],
        annotations=[dict(id=1, image_id=1, category_id=1, keypoints=joints, bbox=[5, 15, 40, 40], area=1600)])))
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((64, 64, 3), 99, np.uint8))
    output = tmp_path / 'report.html'
    file = ['--data.info', str(tmp_path / 'info.json')] if named == 'by a file' else []
    assert report.main(['--results', str(tmp_path / 'results.json'), '--annotations', str(tmp_path / 'truth.json'),
                        '--images', str(tmp_path), '--model_config', config, '--output', str(output), *file]) == 0
    text = output.read_text()
    assert all(name in text for name in ('>1.000<', 'no metrics file'))
    if named == 'by a configuration':
        assert 'Never labelled in these data: right ankle, right knee' in text
        assert all(name in text for name in ('>pelvis<', '>head top<', '>wrist<')) and '>ankle<' not in text
    else:
        assert all(name in text for name in ('>paw left<', '>paw<', '>tail<')) and 'ankle' not in text


def test_what_was_mended_and_omitted_is_said(folder: Path, synthetic: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture) -> None:
    content = json.loads((synthetic / 'annotations' / 'person_keypoints_val2017.json').read_text())
    persons = [a for a in content['annotations'] if any(a['keypoints'])]
    del persons[0]['area']
    content['annotations'].append({**persons[1], 'id': 'nobody', 'keypoints': [], 'bbox': [0, 0, 0, 0], 'area': 0})
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    results = json.loads((folder / 'results_det.json').read_text())
    (tmp_path / 'results.json').write_text(json.dumps([*results, {**results[0], 'category_id': 2}]))
    assert report.main(options(folder, synthetic, '--count', '1', '--output', str(tmp_path / 'r.html'), '--annotations',
                               str(tmp_path / 'gt.json'), '--results', str(tmp_path / 'results.json'))) == 0
    line = ('gt.json: mended 1 areas (0.53 of the box); omitted 1 annotations without a usable box, '
            '1 results of other categories')
    assert line in capsys.readouterr().out and line in (tmp_path / 'r.html').read_text()


def test_no_results_is_a_page_of_missed_persons(synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / 'results_det.json').write_text('[]')
    assert report.main(options(tmp_path, synthetic, '--count', '2')) == 0
    text = (tmp_path / 'report.html').read_text()
    assert 'id="precision-recall"' not in text and text.count('<img') == 2 and 'found</th><td>0<' in text


@pytest.mark.parametrize(('change', 'words'), [
    (dict(output='report.pdf'), 'must end in .html'), (dict(results='none.json'), 'does not exist'),
    (dict(metrics='none.json'), 'does not exist'), (dict(images='none'), 'none'), (dict(count='-1'), '--count'),
    (dict(training='none'), 'steps.csv'), (dict(model_config='litehrnet_18_mpii_256x256'), 'annotation')])
def test_odd_inputs_are_one_line_and_leave_nothing(change: dict, words: str, folder: Path, synthetic: Path,
                                                   tmp_path: Path) -> None:
    given = options(folder, synthetic, '--output', str(tmp_path / 'new.html'))
    for key, value in change.items():
        given += [f'--{key}', value if key in ('count', 'model_config') else str(tmp_path / value)]
    with pytest.raises(InputError, match=words) as error:
        report.main(given)
    assert '\n' not in str(error.value) and not list(tmp_path.iterdir())


def test_mpii_annotations_are_told_from_coco(folder: Path, synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / 'mpii_val.json').write_text('[{"joints": []}]')
    with pytest.raises(InputError, match="COCO's format"):
        report.main([*options(folder, synthetic), '--annotations', str(tmp_path / 'mpii_val.json')])


def test_metrics_without_numbers_are_refused(folder: Path, synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / 'metrics.json').write_text('{"AP": "high"}')
    with pytest.raises(InputError, match='not the metrics'):
        report.main([*options(folder, synthetic), '--metrics', str(tmp_path / 'metrics.json')])


def test_metrics_of_other_results_are_refused(folder: Path, synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / 'metrics.json').write_text(json.dumps(dict(AP=0.001, boxes='gt')))
    with pytest.raises(InputError, match='do not belong together'):
        report.main(options(folder, synthetic, '--metrics', str(tmp_path / 'metrics.json'), '--output',
                            str(tmp_path / 'new.html')))
