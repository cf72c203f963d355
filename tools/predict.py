"""Find the keypoints of the people in images, videos, cameras or streams, and draw them.

    python tools/predict.py holiday.jpg clips/ --output predictions

Writes the images and videos (.mp4) with skeletons under their own names, and results.json in COCO's format with the
file names. The network looks at one person at a time, so somebody must say where people are: by default an SSDLite
network, where its package is installed (scripts/setup_env.sh does it), else OpenCV's HOG detector, which finds few.
--detector takes a larger one: a YOLOX, RTMDet, YOLOv8, NanoDet, ... in an ONNX file. --boxes takes the boxes of any
other; --whole_image does for images of one person.
A file among others that can't be read, processed or written is named and omitted; the exit status is 1 then. Ctrl-C
ends a camera or stream.
"""
from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from math import isnan
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.common.errors import InputError, argument_parser, run
from src.common.interrupts import deferred_interrupts, raise_on_sigterm
from src.mmpose.annotations import PERSON, read_annotations
from src.mmpose.evaluation import NMS
from src.prediction import load_model
from src.prediction.boxes import MIN_SCORE, BoxFile, whole_image
from src.prediction.detectors import find_detector
from src.prediction.drawing import Style
from src.prediction.matching import match_ids
from src.prediction.output import OutputFolder
from src.prediction.run import PredictionRun
from src.prediction.sources import camera, find_sources
from src.settings.table import DEVICES


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argument_parser(__doc__)
    parser.add_argument('inputs', nargs='*', metavar='INPUT', help='images, videos, folders, "quoted/*.jpg" patterns, '
                                                                 'rtsp:// and http:// addresses')
    parser.add_argument('--webcam', type=int, metavar='N', help='take the camera of that number')
    parser.add_argument('--checkpoint', default='mmpose_litehrnet_18_coco_256x192', metavar='FILE',
                        help='.ckpt, .pth, .pdparams, .mindir or .onnx file, or the name of published weights '
                             '(tools/weights.py), which are downloaded once (default: %(default)s)')
    parser.add_argument('--model_config', metavar='NAME', help='default: as the file, its config.json or its name says')
    parser.add_argument('--mmpose_config', metavar='FILE', help='config file of MMPose 0.x, in place of --model_config')
    parser.add_argument('--output', type=Path, default=Path('predictions'), metavar='DIR',
                        help='(default: predictions)')
    parser.add_argument('--device', choices=DEVICES, default='CPU', help='(default: CPU)')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--boxes', type=Path, metavar='FILE', help='COCO detections (JSON) that say file_name, or '
                                                                   'image_id with --annotations')
    source.add_argument('--whole_image', '--whole-image', action='store_true', help='one person, who fills the image')
    source.add_argument('--detector', metavar='NAME_OR_FILE', help='ssdlite, hog, a published one (tools/weights.py), '
                        'which is downloaded once, or an .onnx file (default: ssdlite, else hog)')
    parser.add_argument('--annotations', type=Path, metavar='FILE', help='COCO annotations: the image ids of the '
                                                                         'files; without it they are numbered')
    parser.add_argument('--min_box_score', type=float, metavar='S', help='boxes of --boxes and of a detector other '
                        'than hog below it are omitted (default: 0.3; of ssdlite 0.1)')
    parser.add_argument('--keypoint_threshold', '--min_score', type=float, default=0.3, metavar='S', dest='min_score',
                        help='keypoints below it are not drawn (default: 0.3)')
    parser.add_argument('--black_background', action='store_true', help='draw on black')
    parser.add_argument('--labels', action='store_true', help='write on each frame how many persons it shows, and at '
                                                              'each person of a video its track_id')
    parser.add_argument('--detect_every', type=int, default=1, metavar='N',
                        help='in videos, look for persons in every Nth frame and follow them in between (default: 1)')
    parser.add_argument('--smooth', choices=('true', 'false'), default='true',
                        help='in videos, filter the keypoints of each person over time (default: true)')
    parser.add_argument('--flip_test', choices=('true', 'false'),
                        help='average with the mirrored image, at twice the time (default: as configured)')
    parser.add_argument('--nms', choices=tuple(NMS), help='among the persons of an image (default: as the '
                                                          'configuration says)')
    parser.add_argument('--batch', type=int, metavar='N', help='persons at a time (default: 8; 1 with --detect_every)')
    options = parser.parse_args(argv)
    if options.detect_every < 1:
        raise InputError(f'--detect_every {options.detect_every}: must be at least 1')
    if isnan(options.min_score):
        raise InputError('--keypoint_threshold nan: must be a number')
    if options.min_box_score is not None and not options.min_box_score >= 0:
        raise InputError(f'--min_box_score {options.min_box_score}: must be at least 0')
    if options.batch is None:
        options.batch = 8 if options.detect_every == 1 else 1
    if '' in options.inputs:
        raise InputError("an input is empty text; give '.' for the folder you are in")
    if bool(options.inputs) == (options.webcam is not None):
        raise InputError('give images, videos or folders, or else --webcam N')
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    sources = find_sources(options.inputs, options.output) or [camera(options.webcam)]
    folder = OutputFolder(options.output, sources)
    model = load_model(options.checkpoint, model_config=options.model_config, mmpose_config=options.mmpose_config,
                       device=options.device, batch_size=options.batch,
                       flip_test=None if options.flip_test is None else options.flip_test == 'true')
    names, image_ids, categories = {}, {}, model.categories
    if options.annotations:
        annotations = read_annotations(options.annotations, model.info)
        names = {image_id: image.file_name for image_id, image in annotations.images.items()}
        image_ids, categories = match_ids(names, sources, options.annotations), annotations.categories
    detect = (BoxFile(options.boxes, sources, names, categories,
                      MIN_SCORE if options.min_box_score is None else options.min_box_score) if options.boxes else
              whole_image if options.whole_image else find_detector(options.detector, options.min_box_score))
    prediction = PredictionRun(model, sources, detect, folder, image_ids=image_ids,
                               category_id=categories[0] if categories else PERSON, nms=options.nms,
                               style=Style(options.min_score, options.black_background, options.labels),
                               detect_every=options.detect_every, smooth=options.smooth == 'true', taken_ids=names)
    with deferred_interrupts():
        model.predict(np.zeros((64, 64, 3), np.uint8), [[0, 0, 64, 64]])  # compiled now, so that the rate is true
    raise_on_sigterm()
    began = time.perf_counter()
    with suppress(*([] if any(source.path for source in sources) else [KeyboardInterrupt])):
        prediction.run()
    rate = prediction.frames / (time.perf_counter() - began)
    if prediction.frames:
        print(f'{options.output}: {prediction.frames} images and frames, {prediction.persons} persons, '
              f'{rate:.1f} frames/s')
    if isinstance(detect, BoxFile):
        remarks = detect.remarks(prediction.completed)
        if remarks:
            print(remarks)
    elif prediction.frames and not prediction.persons:
        print('no person was found: a larger --detector may find some, --boxes FILE takes those of any other, '
              '--whole_image needs none')
    return int(bool(prediction.failed))


if __name__ == '__main__':
    run(main)
