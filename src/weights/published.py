"""The published Lite-HRNet weights: where they are, what they are for, and how they score as their authors say."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.common.files import cache_folder

LICENCE = 'Apache-2.0'
MMPOSE = 'https://github.com/open-mmlab/mmpose'
MMPOSE_FILES = 'https://download.openmmlab.com/mmpose/top_down/litehrnet/'
OFFICIAL = 'https://github.com/HRNet/Lite-HRNet'
DRIVE = 'https://drive.google.com/uc?export=download&id='


@dataclass(frozen=True)
class Published:
    """One file of published weights.

    Attributes:
        name: what users call it: its source and its model configuration.
        model_config: the model configuration it is for.
        url: where it is downloaded from.
        file: its name in the cache folder and in a mirror.
        sha256: the beginning of its SHA-256; empty where none is published.
        score: as its source says, with the conditions.
        source: the repository that publishes it.
        licence: of the weights.
    """

    name: str
    model_config: str
    url: str
    file: str
    sha256: str
    score: str
    source: str
    licence: str = LICENCE


def _score(model_config: str, figure: str) -> str:
    return (f'AP {figure}, COCO val2017, detector boxes' if '_coco_' in model_config else
            f'PCKh@0.5 {figure}, MPII val')


def _mmpose(model_config: str, file: str, figure: str) -> Published:
    """Return weights of MMPose, which puts the first eight digits of a file's SHA-256 into its name."""
    return Published(f'mmpose_{model_config}', model_config, MMPOSE_FILES + file, file,
                     file.partition('-')[2].partition('_')[0], _score(model_config, figure), MMPOSE)


def _official(model_config: str, drive_id: str, figure: str) -> Published:
    name = f'official_{model_config}'
    return Published(name, model_config, DRIVE + drive_id, f'{name}.pth', '', _score(model_config, figure), OFFICIAL)


# MMPose's model zoo; the table of the authors' README at commit 7b9049d.
PUBLISHED = {weights.name: weights for weights in (
    _mmpose('litehrnet_18_coco_256x192', 'litehrnet18_coco_256x192-6bace359_20211230.pth', '0.642'),
    _mmpose('litehrnet_18_coco_384x288', 'litehrnet18_coco_384x288-8d4dac48_20211230.pth', '0.676'),
    _mmpose('litehrnet_30_coco_256x192', 'litehrnet30_coco_256x192-4176555b_20210626.pth', '0.676'),
    _mmpose('litehrnet_30_coco_384x288', 'litehrnet30_coco_384x288-a3aef5c4_20210626.pth', '0.700'),
    _mmpose('litehrnet_18_mpii_256x256', 'litehrnet18_mpii_256x256-cabd7984_20210623.pth', '0.859'),
    _mmpose('litehrnet_30_mpii_256x256', 'litehrnet30_mpii_256x256-faae8bd8_20210622.pth', '0.869'),
    _official('litehrnet_18_coco_256x192', '1ZewlvpncTvahbqcCFb-95C3NHet30mk5', '0.648'),
    _official('litehrnet_18_coco_384x288', '1E3S18YbUfBm7YtxYOV7I9FmrntnlFKCp', '0.676'),
    _official('litehrnet_30_coco_256x192', '1KLjNInzFfmZWSbEQwx-zbyaBiLB7SnEj', '0.672'),
    _official('litehrnet_30_coco_384x288', '1BcHnLka4FWiXRmPnJgJKmsSuXXqN4dgn', '0.704'),
    _official('naive_litehrnet_18_coco_256x192', '1rW1gqKtCUxpsos-eLItEHZThEF48eRjQ', '0.628'),
    _official('wider_naive_litehrnet_18_coco_256x192', '1Amb0yE677zV18KaH6gruUQnHUiwBx_-H', '0.660'),
    _official('litehrnet_18_mpii_256x256', '1bcnn5Ic2-FiSNqYOqLd1mOfQchAz_oCf', '0.854'),
    _official('litehrnet_30_mpii_256x256', '1JB9LOwkuz5OUtry0IQqXammFuCrGvlEd', '0.870'),
    _official('naive_litehrnet_18_mpii_256x256', '1tUdrJd_SI5HGBuYT9FxYX5XFhfcb3cD_', '0.853'),
    _official('wider_naive_litehrnet_18_mpii_256x256', '12cPeB8MZs1o6_qOS7HavGwkk6r7hUMAS', '0.868'))}


def weights_folder() -> Path:
    """Return the folder that downloaded weights are kept in."""
    return cache_folder() / 'weights'


def cached(weights: Published) -> Path:
    """Return where the file of published weights is, or would be, on this machine."""
    return weights_folder() / weights.file


def find_published(given: Path | str) -> Published | None:
    """Return the published weights that a word names (where no file has that name), or that a file has the name of."""
    path = Path(given)
    if path.is_file():
        return next((weights for weights in PUBLISHED.values() if weights.file == path.name), None)
    return PUBLISHED.get(str(given))
