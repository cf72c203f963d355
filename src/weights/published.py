"""The published Lite-HRNet weights: where they are, what they are for, and how they score as their authors say."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.common.files import cache_folder

APACHE = 'Apache-2.0'
MMPOSE = 'https://github.com/open-mmlab/mmpose'
MMPOSE_FILES = 'https://download.openmmlab.com/mmpose/'
OFFICIAL = 'https://github.com/HRNet/Lite-HRNet'
DRIVE = 'https://drive.google.com/uc?export=download&id='
PADDLE = 'https://github.com/PaddlePaddle/PaddleDetection'
PADDLE_FILES = 'https://bj.bcebos.com/v1/paddledet/models/keypoint/'
COURSES = 'https://github.com/mindspore-courses'
COURSES_FILES = 'https://download.mindspore.cn/vision/litehrnet/ckpts/'


@dataclass(frozen=True)
class Published:
    """One published file: of weights, or of a people detector."""

    name: str  # what users call it; of weights, its source and its model configuration
    model_config: str  # the model configuration that weights are for; empty for a detector
    url: str
    file: str  # its name in the cache folder and in a mirror
    sha256: str  # the beginning of its SHA-256; empty where none is published
    score: str  # as its source says, with the conditions
    source: str  # the repository that publishes it
    licence: str = APACHE


def _score(model_config: str, figure: str) -> str:
    return (f'AP {figure}, COCO val2017, detector boxes' if '_coco_' in model_config else
            f'PCKh@0.5 {figure}, MPII val' if '_mpii_' in model_config else figure)


def _mmpose(model_config: str, file: str, figure: str, folder: str = 'top_down') -> Published:
    """Return weights of MMPose, which puts the first eight digits of a file's SHA-256 into its name."""
    return Published(f'mmpose_{model_config}', model_config, f'{MMPOSE_FILES}{folder}/litehrnet/{file}', file,
                     file.rpartition('-')[2].partition('_')[0], _score(model_config, figure), MMPOSE)


def _official(model_config: str, drive_id: str, figure: str) -> Published:
    name = f'official_{model_config}'
    return Published(name, model_config, DRIVE + drive_id, f'{name}.pth', '', _score(model_config, figure), OFFICIAL)


def _paddle(model_config: str, path: str, figure: str, variant: str = '') -> Published:
    """Return weights of PaddleDetection; a folder has files of the same names as the one above it."""
    return Published(f'paddle_{variant}{model_config}', model_config, PADDLE_FILES + path,
                     path.replace('/tinypose_', '_'), '', f'AP {figure}, COCO val2017, annotated boxes', PADDLE)


def _courses(model_config: str) -> Published:
    """Return weights of mindspore-courses. The file must not have the name of one that a training writes."""
    name = f'mindspore_{model_config}'
    return Published(name, model_config, f'{COURSES_FILES}{model_config}.ckpt', f'{name}.ckpt', '',
                     'no score published with the file', COURSES, 'no licence published with the file')


# The model zoos of MMPose and PaddleDetection; the table of the authors' README at commit 7b9049d.
PUBLISHED = {weights.name: weights for weights in (
    _mmpose('litehrnet_18_coco_256x192', 'litehrnet18_coco_256x192-6bace359_20211230.pth', '0.642'),
    _mmpose('litehrnet_18_coco_384x288', 'litehrnet18_coco_384x288-8d4dac48_20211230.pth', '0.676'),
    _mmpose('litehrnet_30_coco_256x192', 'litehrnet30_coco_256x192-4176555b_20210626.pth', '0.676'),
    _mmpose('litehrnet_30_coco_384x288', 'litehrnet30_coco_384x288-a3aef5c4_20210626.pth', '0.700'),
    _mmpose('litehrnet_18_mpii_256x256', 'litehrnet18_mpii_256x256-cabd7984_20210623.pth', '0.859'),
    _mmpose('litehrnet_30_mpii_256x256', 'litehrnet30_mpii_256x256-faae8bd8_20210622.pth', '0.869'),
    _mmpose('litehrnet_18_wholebody_hand_256x256',
            'litehrnet_w18_coco_wholebody_hand_256x256-d6945e6a_20210908.pth',
            'PCK@0.2 0.795, AUC 0.830, EPE 4.77, COCO-WholeBody-hand val', 'hand'),
    _official('litehrnet_18_coco_256x192', '1ZewlvpncTvahbqcCFb-95C3NHet30mk5', '0.648'),
    _official('litehrnet_18_coco_384x288', '1E3S18YbUfBm7YtxYOV7I9FmrntnlFKCp', '0.676'),
    _official('litehrnet_30_coco_256x192', '1KLjNInzFfmZWSbEQwx-zbyaBiLB7SnEj', '0.672'),
    _official('litehrnet_30_coco_384x288', '1BcHnLka4FWiXRmPnJgJKmsSuXXqN4dgn', '0.704'),
    _official('naive_litehrnet_18_coco_256x192', '1rW1gqKtCUxpsos-eLItEHZThEF48eRjQ', '0.628'),
    _official('wider_naive_litehrnet_18_coco_256x192', '1Amb0yE677zV18KaH6gruUQnHUiwBx_-H', '0.660'),
    _official('litehrnet_18_mpii_256x256', '1bcnn5Ic2-FiSNqYOqLd1mOfQchAz_oCf', '0.854'),
    _official('litehrnet_30_mpii_256x256', '1JB9LOwkuz5OUtry0IQqXammFuCrGvlEd', '0.870'),
    _official('naive_litehrnet_18_mpii_256x256', '1tUdrJd_SI5HGBuYT9FxYX5XFhfcb3cD_', '0.853'),
    _official('wider_naive_litehrnet_18_mpii_256x256', '12cPeB8MZs1o6_qOS7HavGwkk6r7hUMAS', '0.868'),
    _paddle('litehrnet_18_coco_256x192', 'lite_hrnet_18_256x192_coco.pdparams', '0.665'),
    _paddle('litehrnet_18_coco_384x288', 'lite_hrnet_18_384x288_coco.pdparams', '0.697'),
    _paddle('litehrnet_30_coco_256x192', 'lite_hrnet_30_256x192_coco.pdparams', '0.694'),
    _paddle('litehrnet_30_coco_384x288', 'lite_hrnet_30_384x288_coco.pdparams', '0.725'),
    _paddle('wider_naive_litehrnet_18_coco_256x192', 'wider_naive_hrnet_18_256x192_coco.pdparams', '0.676'),
    _paddle('tinypose_128x96', 'tinypose_128x96.pdparams', '0.581'),
    _paddle('tinypose_256x192', 'tinypose_256x192.pdparams', '0.688'),
    _paddle('tinypose_128x96', 'tinypose_enhance/tinypose_128x96.pdparams', '0.584', 'enhance_'),
    _paddle('tinypose_256x192', 'tinypose_enhance/tinypose_256x192.pdparams', '0.683', 'enhance_'),
    *(_courses(f'litehrnet_{depth}_{data}') for depth in (18, 30)
      for data in ('coco_256x192', 'coco_384x288', 'mpii_256x256')),
    *(_courses(f'{kind}_litehrnet_18_{data}') for kind in ('naive', 'wider_naive')
      for data in ('coco_256x192', 'mpii_256x256')))}


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
