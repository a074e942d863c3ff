"""The FCN segmenter with all of its work on the device: what ``build_segmenter`` gives on CUDA.

Only bytes travel: pictures to the device, and classes, one byte a pixel, back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from vision.card import ModelCard
from vision.errors import ConfigError, StateError
from vision.geometry.letterbox import Letterbox
from vision.runtime.config import Precision, RuntimeConfig
from vision.runtime.device_batches import DeviceBatches, check_batch
from vision.runtime.device_memory import PictureUploader
from vision.runtime.device_tuning import BATCH_BUCKETS, COMMON_SIZES, BatchTuning, cap_for, tune_batch
from vision.runtime.engine import resolve_device
from vision.runtime.preprocess import Normalization
from vision.runtime.weights import card_normalization, card_value
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.device_maps import DeviceSegmenterInput, LaunchedMaps, launch_maps, read_maps
from vision.segmentation.readout import Reading
from vision.segmentation.segmenter import CoarseLogits, batches_of, load_network
from vision.types import Frame, SegmentationMap

Launched = TypeVar("Launched")


class DeviceSegmenter:
    """Runs a network that gives logits on any grid on a device. Safe to share by threads, of which one at a time
    launches a batch.

    Inputs that ask for another long side than the segmenter has are odd: they run in batches of their own and without
    graphs, so that those of everybody else stay as they are.

    Args:
        network: images [B, 3, H, W] to logits [B, K, h, w], in evaluation mode; it is moved to the device and must not
            be used elsewhere.
        device: where it runs.
        class_names, normalization, multiple, long_side, max_batch: as of an EngineSegmenter.
        reading: what is made of the classes of frames that bring none; without scores.
        precision: autocast type; fp32 without CUDA.
        graphs: whether shapes that come often become CUDA graphs.

    Raises:
        ConfigError: a reading with scores.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        class_names: tuple[str, ...],
        normalization: Normalization,
        multiple: int,
        long_side: int = 0,
        reading: Reading | None = None,
        max_batch: int = 4,
        precision: Precision = "fp32",
        graphs: bool = True,
    ) -> None:
        self.reading = _without_scores(reading or Reading(class_names))
        self.multiple = multiple
        self.long_side = long_side
        self.max_batch = min(max_batch, BATCH_BUCKETS[-1])
        self._engine: DeviceBatches | None = DeviceBatches(
            network, device, normalization=normalization, precision=precision, graphs=graphs
        )
        self._uploader = PictureUploader(device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label of a map."""
        return self.reading.output_names

    @property
    def engine(self) -> DeviceBatches:
        """What runs the network; raises StateError after ``close``."""
        if self._engine is None:
            raise StateError("a segmenter must be open to be used, this one was closed; load it again")
        return self._engine

    def letterbox(self, frame: Frame, long_side: int = 0) -> Letterbox:
        """Return how a frame becomes the network's input, at another size than the segmenter's own if given."""
        long_side = long_side or self.long_side or max(frame.size_hw)
        return Letterbox.fit(frame.size_hw, long_side=long_side, multiple=self.multiple)

    def prepare(self, frame: Frame, reading: Reading | None = None, *, long_side: int = 0) -> DeviceSegmenterInput:
        """Return a frame as it travels to the device; any thread may call it. ``reading`` and ``long_side`` take the
        place of the segmenter's own where given.

        Raises:
            ConfigError: a reading with scores. DeviceMemoryError: no room on the device.
        """
        reading = self.reading if reading is None else _without_scores(reading)
        is_odd = long_side not in (0, self.long_side)
        letterbox = self.letterbox(frame, long_side)
        return DeviceSegmenterInput(self._uploader.upload(frame.image), letterbox, reading, is_odd=is_odd)

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        """Return one map a frame, of any sizes; a frame's result does not depend on its company in the batch.

        Raises:
            StateError: the segmenter was closed. DeviceMemoryError: no room for ``max_batch`` pictures.
        """
        batches = (
            (rows, self.launch([self.prepare(frames[row]) for row in rows]))
            for rows in batches_of([self.letterbox(frame) for frame in frames], self.max_batch)
        )
        maps = {
            row: own for rows, batch in one_ahead(batches) for row, own in zip(rows, self.collect(batch), strict=True)
        }
        return [maps[row] for row in range(len(frames))]

    def segment_prepared(self, inputs: Sequence[DeviceSegmenterInput]) -> list[SegmentationMap]:
        """Return the maps of inputs of one ``shape_key``; raises DeviceMemoryError where there is no room."""
        return self.collect_all(self.launch_all(inputs))

    def launch_all(self, inputs: Sequence[DeviceSegmenterInput]) -> list[LaunchedMaps]:
        """Start the work of any number of inputs of one ``shape_key``; raises DeviceMemoryError as ``launch``."""
        most = BATCH_BUCKETS[-1]
        return [self.launch(inputs[start : start + most]) for start in range(0, len(inputs), most)]

    def collect_all(self, launched: Sequence[LaunchedMaps]) -> list[SegmentationMap]:
        """Return the maps of launched batches, one after the other."""
        return [found for batch in launched for found in self.collect(batch)]

    def launch(self, inputs: Sequence[DeviceSegmenterInput]) -> LaunchedMaps:
        """Start the work of a batch, at most 32 inputs of one ``shape_key``, without waiting for any of it.

        Raises:
            StateError: the segmenter was closed. DeviceMemoryError: the device has no room for it; recorded graphs are
                given up then, and a smaller batch can be tried at once.
        """
        check_batch(inputs)
        engine, keep = self.engine, not inputs[0].is_odd
        return engine.launch(len(inputs), lambda: launch_maps(engine, tuple(inputs), keep), keep=keep)

    def collect(self, batch: LaunchedMaps) -> list[SegmentationMap]:
        """Return the maps of a launched batch, in the order of its inputs, once the device is done."""
        return read_maps(batch)

    def close(self) -> None:
        """Give the device's memory back; further calls raise StateError. Closing twice is allowed."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def start_up(self, sizes_hw: Sequence[tuple[int, int]] = COMMON_SIZES) -> int:
        """Return the batch cap for pictures of any of these sizes, all of whose graphs are recorded on the way."""
        return cap_for(sizes_hw, self.autotune, self.engine.name)

    def autotune(
        self, size_hw: tuple[int, int] = (480, 640), *, buckets: Sequence[int] = BATCH_BUCKETS, repeats: int = 10
    ) -> BatchTuning:
        """Return the batch size from which pictures of a size go no faster or find no memory; warms up on the way."""
        item = self.prepare(Frame(np.zeros((*size_hw, 3), np.uint8)))
        with self.engine.starting():
            return tune_batch(lambda batch: self.segment_prepared([item] * batch), buckets=buckets, repeats=repeats)


def one_ahead(launched: Iterable[Launched]) -> Iterator[Launched]:
    """Yield batches, each when the next has been launched: the device does not idle while one is awaited and read, and
    only two hold memory."""
    before: list[Launched] = []
    for batch in launched:
        yield from before
        before = [batch]
    yield from before


def _without_scores(reading: Reading) -> Reading:
    """Return the reading if it can be served from classes alone."""
    if reading.scores:
        raise ConfigError(
            "a segmenter on the device must be asked for classes alone, got scores as well; take runtime.engine=torch"
        )
    return reading


def load_device_segmenter(card: ModelCard, config: SegmenterConfig, runtime: RuntimeConfig) -> DeviceSegmenter:
    """Return the FCN segmenter that a model card describes, on the runtime's device; raises as ``load_fcn``."""
    network = load_network(card)
    return DeviceSegmenter(
        CoarseLogits(network),
        resolve_device(runtime.device),
        class_names=card.labels,
        normalization=card_normalization(card),
        # Cards of other makers may name none.
        multiple=int(card.preprocess.get("multiple", network.multiple)),
        long_side=config.long_side or int(card_value(card, "preprocess", "long_side")),
        reading=Reading(card.labels, kept=config.classes, scores=config.scores),
        max_batch=config.max_batch,
        precision=runtime.precision,
    )
