"""The anchor detector with all of its work on the device: what ``build_detector`` gives on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from vision.card import ModelCard
from vision.detection.anchors import AnchorConfig
from vision.detection.classes import wanted_labels
from vision.detection.config import DetectorConfig
from vision.detection.detector import load_network
from vision.detection.device_decode import needed_effort, needed_width, read_result, settings_row
from vision.detection.device_effort import EffortMemory
from vision.detection.device_engine import DeviceEngine, DeviceInput, LaunchedBatch
from vision.detection.feature_maps import fit_frame
from vision.geometry.letterbox import rows_by_shape
from vision.runtime.config import Precision, RuntimeConfig
from vision.runtime.device_batches import check_batch
from vision.runtime.device_memory import PictureUploader
from vision.runtime.device_tuning import BATCH_BUCKETS, COMMON_SIZES, BatchTuning, cap_for, tune_batch
from vision.runtime.engine import resolve_device
from vision.runtime.preprocess import Normalization
from vision.runtime.weights import card_normalization, card_value
from vision.types import Detections, FloatArray, Frame

# Scores below this let so much noise through that a batch needs other buffers than all the rest.
LOW_SCORE = 0.05


class DeviceDetector:
    """Runs an AnchorDetectorNetwork on a device. Safe to share by threads, of which one at a time launches a batch.

    Inputs that ask for another long side than the detector has, or for lower scores than both it and LOW_SCORE have,
    are odd: they run in batches of their own and without graphs, so that those of everybody else stay as they are.

    Args:
        network: in evaluation mode; it is moved to the device and must not be used elsewhere.
        device: where it runs.
        multiple, class_names, normalization, long_side: what the network was made with.
        config: thresholds of frames that bring none, and another ``long_side`` if it is not 0.
        precision: autocast type; fp32 without CUDA.
        graphs: whether shapes that come often become CUDA graphs.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        anchors: AnchorConfig,
        multiple: int,
        class_names: tuple[str, ...],
        normalization: Normalization,
        long_side: int,
        config: DetectorConfig,
        precision: Precision = "fp32",
        graphs: bool = True,
    ) -> None:
        wanted_labels(config.classes, class_names)  # an unknown class fails now, not with the first frame
        self.config = config
        self.class_names = class_names
        self.engine = DeviceEngine(
            network,
            device,
            anchors=anchors,
            num_classes=len(class_names),
            normalization=normalization,
            precision=precision,
            graphs=graphs,
        )
        self._own_long_side = long_side
        self._multiple = multiple
        self._uploader = PictureUploader(device)
        self._effort, self._odd_effort = EffortMemory(), EffortMemory()

    def prepare(self, frame: Frame, config: DetectorConfig | None = None) -> DeviceInput:
        """Return a frame as it travels to the device, with thresholds of its own if given; any thread may call it.

        Raises:
            ConfigError: an unknown class. DeviceMemoryError: no room on the device.
        """
        config = config or self.config
        wanted = wanted_labels(config.classes, self.class_names)
        own_side = self.config.long_side or self._own_long_side
        long_side = config.long_side or self._own_long_side
        is_odd = long_side != own_side or config.score_floor < min(self.config.score_floor, LOW_SCORE)
        letterbox = fit_frame(frame, long_side, self._multiple)
        settings = settings_row(config, letterbox, wanted, len(self.class_names))
        return DeviceInput(self._uploader.upload(frame.image), letterbox, config, settings, is_odd=is_odd)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, best first, in pixels of that frame; frames of any sizes."""
        inputs = [self.prepare(frame) for frame in frames]
        groups = list(rows_by_shape([item.letterbox for item in inputs]).values())
        found = self._detect_all([[inputs[row] for row in rows] for rows in groups])
        results = dict(zip((row for rows in groups for row in rows), found, strict=True))
        return [results[row] for row in range(len(frames))]

    def detect_prepared(self, inputs: Sequence[DeviceInput]) -> list[Detections]:
        """Return the detections of inputs of one ``shape_key``; raises DeviceMemoryError where there is no room."""
        return self._detect_all([inputs])

    def _detect_all(self, groups: Sequence[Sequence[DeviceInput]]) -> list[Detections]:
        """Return the detections of groups of one shape each, group by group."""
        # All are launched before the first is awaited, so the device does not idle between them.
        launched = [batch for group in groups for batch in self.launch_all(group)]
        return self.collect_all(launched)

    def launch_all(self, inputs: Sequence[DeviceInput]) -> list[LaunchedBatch]:
        """Start the work of any number of inputs of one ``shape_key``; raises DeviceMemoryError as ``launch``."""
        most = BATCH_BUCKETS[-1]
        return [self.launch(inputs[start : start + most]) for start in range(0, len(inputs), most)]

    def collect_all(self, launched: Sequence[LaunchedBatch]) -> list[Detections]:
        """Return the detections of launched batches, one after the other."""
        return [found for batch in launched for found in self.collect(batch)]

    def launch(self, inputs: Sequence[DeviceInput]) -> LaunchedBatch:
        """Start the work of a batch, at most 32 inputs of one ``shape_key``, without waiting for any of it.

        Raises:
            DeviceMemoryError: the device has no room for it; recorded graphs are given up then, and a smaller batch
                can be tried at once.
        """
        check_batch(inputs)
        is_odd = inputs[0].is_odd
        return self.engine.launch(tuple(inputs), self._memory_of(is_odd).current, keep=not is_odd)

    def collect(self, batch: LaunchedBatch) -> list[Detections]:
        """Return the detections of a launched batch, in the order of its inputs, once the device is done.

        A batch with more candidates than it was given room for is decoded again with more; when that happens more than
        a few times, later ones get it at once.
        """
        configs = [item.config for item in batch.inputs]
        results = wait_for_results(batch)
        self._memory_of(batch.inputs[0].is_odd).note(needed_width(results, configs))
        while (more := needed_effort(results, configs, batch.effort)) is not None:
            batch = self.engine.launch(batch.inputs, more, keep=False)
            results = wait_for_results(batch)
        return [read_result(result, config) for result, config in zip(results, configs, strict=True)]

    def _memory_of(self, is_odd: bool) -> EffortMemory:
        return self._odd_effort if is_odd else self._effort

    def close(self) -> None:
        """Give the device's memory back; the detector must not be used any more."""
        self.engine.close()

    def warm_up(self, size_hw: tuple[int, int] = (480, 640), *, largest_batch: int = BATCH_BUCKETS[-1]) -> None:
        """Run black pictures in batches of each bucket until their graphs are recorded, so that no request waits for
        it."""
        frame = self.prepare(Frame(np.zeros((*size_hw, 3), np.uint8)))
        with self.engine.starting():
            for bucket in (size for size in BATCH_BUCKETS if size <= largest_batch):
                for _ in range(5 if self.engine.uses_graphs else 1):
                    self.detect_prepared([frame] * bucket)

    def start_up(self, sizes_hw: Sequence[tuple[int, int]] = COMMON_SIZES) -> int:
        """Return the batch cap for pictures of any of these sizes, all of whose graphs are recorded on the way."""
        return cap_for(sizes_hw, self.autotune, self.engine.name)

    def autotune(
        self, size_hw: tuple[int, int] = (480, 640), *, buckets: Sequence[int] = BATCH_BUCKETS, repeats: int = 10
    ) -> BatchTuning:
        """Return the batch size from which pictures of a size go no faster or find no memory; warms up on the way."""
        frame = self.prepare(Frame(np.zeros((*size_hw, 3), np.uint8)))
        with self.engine.starting():
            return tune_batch(lambda batch: self.detect_prepared([frame] * batch), buckets=buckets, repeats=repeats)


def wait_for_results(batch: LaunchedBatch) -> list[FloatArray]:
    """Return the results of a launched batch, float32 [1 + W, COLUMNS] each, in the order of its inputs."""
    places = np.argsort(batch.order)  # where in the batch each input lies
    return list(batch.results.wait().numpy()[places])


def load_device_detector(card: ModelCard, config: DetectorConfig, runtime: RuntimeConfig) -> DeviceDetector:
    """Return the anchor detector that a model card describes, on the runtime's device.

    Raises:
        ModelError, WeightsError, ConfigError: as ``load_anchor_detector``.
    """
    network = load_network(card)
    return DeviceDetector(
        network,
        resolve_device(runtime.device),
        anchors=network.anchors,
        multiple=network.multiple,
        class_names=card.labels,
        normalization=card_normalization(card),
        long_side=int(card_value(card, "preprocess", "long_side")),
        config=config,
        precision=runtime.precision,
    )
