"""tools/plot_curves.py as a user runs it."""
from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from src.common.errors import InputError
from tests.report.test_curves import make_run
from tools import plot_curves


def test_one_run_as_png(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / 'new' / 'curves.png'
    assert plot_curves.main([str(make_run(tmp_path / 'first')), '--output', str(output)]) == 0
    image = cv2.imread(str(output))
    assert image.shape[1] > 1000 and image.std() > 5
    assert 'first (4 steps, 2 epochs)' in capsys.readouterr().out


def test_several_runs_as_svg_with_their_names(tmp_path: Path) -> None:
    output = tmp_path / 'curves.svg'
    folders = [str(make_run(tmp_path / name)) for name in ('first', '_second', '$x^2$')]
    assert plot_curves.main([*folders, '--output', str(output)]) == 0
    texts = {e.text for e in ElementTree.parse(output).iter('{http://www.w3.org/2000/svg}text')}
    assert {'first', './_second', '$x^2$', 'Loss per step', 'learning rate', 'epoch', 'AP'} <= texts


@pytest.mark.parametrize(('name', 'suffix', 'words'), [('first', 'pdf', 'must end in'),
                                                       ('none', 'png', 'cannot be read')])
def test_odd_inputs_are_one_line_and_nothing_is_written(name: str, suffix: str, words: str, tmp_path: Path) -> None:
    make_run(tmp_path / 'first')
    with pytest.raises(InputError, match=words) as error:
        plot_curves.main([str(tmp_path / name), '--output', str(tmp_path / f'c.{suffix}')])
    assert '\n' not in str(error.value) and not list(tmp_path.glob('*c.*'))
