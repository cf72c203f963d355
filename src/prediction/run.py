"""Predict, draw and write the persons in all frames of all sources."""
from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from src.common.errors import InputError
from src.common.interrupts import deferred_interrupts
from src.common.progress_bar import ProgressBar
from src.mmpose.evaluation import Predictions, as_results, select_rows
from src.prediction.boxes import Boxes, Detector
from src.prediction.drawing import Style
from src.prediction.output import OutputFolder, ResultFile
from src.prediction.pose_model import PoseModel
from src.prediction.sources import Frame, Source, count_frames, read_ahead
from src.prediction.tracking import Tracker
from src.test_utils import NOT_FINITE

WRITTEN_BEHIND = 8  # frames that wait to be written


class PredictionRun:
    """A model at work on sources of frames."""

    def __init__(self, model: PoseModel, sources: Sequence[Source], detect: Detector, folder: OutputFolder, *,
                 image_ids: dict[Source, Any], category_id: Any, nms: str | None, style: Style,
                 detect_every: int = 1, smooth: bool = True, taken_ids: Iterable[Any] = ()) -> None:
        """Prepare a run; nothing is read or written before `run`.

        Args:
            folder: for the drawn images and videos, and for `results.json`: persons in COCO's result format, with
                `file_name` and, in videos, `frame` and `track_id`.
            image_ids: of images; others are numbered.
            taken_ids: no image is numbered so, nor as one in `image_ids`.
            category_id: of persons whose box has none.
            nms: among the persons of an image; None: as the model's configuration says.
            style: how persons are drawn; in videos, those of a lower score than its min_score are not followed.
            detect_every: in videos, frames from one look of the detector to the next; between them, the network looks
                where the persons of the frame before are.
            smooth: filter the keypoints of each person in a video over time.
        """
        self._model, self._sources, self._detect, self._folder = model, sources, detect, folder
        self._image_ids, self._category_id, self._style = image_ids, category_id, style
        self._detect_every, self._smooth = detect_every, smooth
        self._trackers: dict[Source, Tracker] = {}
        taken = (str(image_id) for image_id in (*taken_ids, *image_ids.values()))
        self._next_id = max([0, *(int(number) for number in taken if number.isdecimal())]) + 1
        self._nms = nms or model.config['eval']['nms']
        self._pending: deque[tuple[Frame, Boxes]] = deque()
        self._writing: deque[tuple[list[dict[str, Any]], Future[bool]]] = deque()
        self._open: Source | None = None
        self._unwritable: set[Source] = set()
        self.persons = self.frames = 0  # written so far
        self.completed: set[Source] = set()  # read to their end
        self.failed: set[Source] = set()  # could not be read, processed or written

    def run(self) -> None:
        """Go through all sources; what was found is written also when that is interrupted.

        Images are read by threads ahead of the network, frames drawn and written by one behind it. A source that can't
        be read, processed or written is named on stderr and omitted.

        Raises:
            InputError: nothing can be written to the folder.
        """
        self._results = ResultFile(self._folder.path / 'results.json')
        one_by_one = self._detect_every > 1 and not all(source.is_image for source in self._sources)
        counts = [count_frames(source) for source in self._sources]
        with (ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(1) as self._writer,
              ProgressBar(None if None in counts else sum(counts), 'frame') as bar):
            try:
                crops = self._crops(readers)
                for keypoints, windows in self._model.predict_crops(crops, one_by_one=one_by_one):
                    frame, boxes = self._pending.popleft()
                    if np.isfinite(keypoints).all():
                        self._write(frame, self._persons(frame, boxes, keypoints, windows))
                    else:
                        with self._omit_on_error(frame.source):
                            raise InputError(f'{frame.source}: {NOT_FINITE}')
                    bar.update()
            finally:
                with deferred_interrupts():
                    self._finish()

    def _finish(self) -> None:
        """Wait for the writer, and give the last video and the results their names."""
        self._writer.shutdown()
        self._close_video()
        try:
            self._note_written(0)
        finally:
            if self.frames:
                self._results.close()
            else:
                self._results.remove()

    @contextmanager
    def _omit_on_error(self, source: Source) -> Iterator[None]:
        try:
            yield
        except (InputError, cv2.error, MemoryError) as error:
            self.failed.add(source)
            reason = str(error) if isinstance(error, InputError) else (
                f'{source}: OpenCV cannot process it ({getattr(error, "err", None) or type(error).__name__}); convert '
                'it or scale it down')
            tqdm.write(f'omitted: {reason}', file=sys.stderr)

    def _crops(self, readers: ThreadPoolExecutor) -> Iterator[list[dict[str, Any]]]:
        """Yield the network's inputs for each frame."""
        for source, frames in read_ahead(self._sources, readers):
            with self._omit_on_error(source):
                for frame in frames:
                    if source in self._unwritable:
                        break
                    boxes = self._boxes(frame)
                    crops = self._model.crop(frame.image, boxes.values)
                    self._pending.append((frame, boxes))
                    yield crops
                else:
                    self.completed.add(source)

    def _tracker(self, frame: Frame) -> Tracker:
        """Return the tracker of a frame's video; those of videos before it are dropped."""
        if frame.source not in self._trackers:
            self._trackers = {frame.source: Tracker(self._model.info.sigmas, frame.rate, smooth=self._smooth)}
        return self._trackers[frame.source]

    def _boxes(self, frame: Frame) -> Boxes:
        """Return where persons are in a frame: as the detector says, or as the frame before does."""
        if frame.number is None or self._detect_every == 1:
            return self._detect(frame)
        found = None if frame.number % self._detect_every else self._detect(frame)
        return self._tracker(frame).follow(frame.number, self._style.min_score, found)

    def _persons(self, frame: Frame, boxes: Boxes, keypoints: np.ndarray, windows: np.ndarray) -> list[dict[str, Any]]:
        """Return a frame's persons after NMS as results."""
        image_id = self._image_ids.get(frame.source) if frame.number is None else None
        if image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        categories = [self._category_id if category is None else category for category in boxes.categories]
        predictions = Predictions(keypoints, windows, [image_id] * len(keypoints), categories,
                                  np.arange(len(keypoints)))
        settings = self._model.config['eval']
        rows, scores = select_rows(predictions, np.array(self._model.info.sigmas), settings['visibility_threshold'],
                                   settings['oks_threshold'], self._nms)
        persons = as_results(predictions, rows, scores)
        if frame.number is None:
            return [{**person, 'file_name': frame.source.name} for person in persons]
        persons = self._tracker(frame).update(frame.number, persons, windows[rows, 5].tolist())
        return [{**person, 'file_name': frame.source.name, 'frame': frame.number} for person in persons]

    def _write(self, frame: Frame, persons: list[dict[str, Any]]) -> None:
        """Have the writer write a frame, and note the persons of those it has written."""
        with deferred_interrupts():
            self._writing.append((persons, self._writer.submit(self._draw, frame, persons)))
            self._note_written(WRITTEN_BEHIND)

    def _note_written(self, behind: int) -> None:
        """Note the persons of written frames, and wait until no more than `behind` frames are to be written."""
        while len(self._writing) > behind:
            persons, written = self._writing.popleft()
            if written.result():
                self._results.add(persons)
                self.persons += len(persons)
                self.frames += 1

    def _draw(self, frame: Frame, persons: list[dict[str, Any]]) -> bool:
        """Draw and write a frame, in the writer's thread; return whether that succeeded."""
        if frame.source is not self._open:
            self._close_video()
            self._open = frame.source
        if frame.source in self._unwritable:
            return False
        with self._omit_on_error(frame.source):
            self._folder.add(frame, self._style.draw(frame.image, persons, self._model.info))
            return True
        self._unwritable.add(frame.source)
        return False

    def _close_video(self) -> None:
        if self._open:
            with self._omit_on_error(self._open):
                self._folder.close()
