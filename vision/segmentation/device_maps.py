"""Batches of a segmenter on a device: from pictures that lie there to classes of their pixels on the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vision.runtime.device_batches import DeviceBatches, HostCopy, PlacedPicture, side_by_side
from vision.runtime.device_graphs import Function
from vision.runtime.device_tuning import bucket_of
from vision.segmentation.device_readout import labels_at_source
from vision.segmentation.readout import Reading
from vision.types import SegmentationMap


@dataclass(frozen=True, slots=True, eq=False)
class DeviceSegmenterInput(PlacedPicture):
    """One frame on its way to the device, and what is to be made of its classes.

    Attributes:
        reading: from classes to the frame's map.
    """

    reading: Reading


@dataclass(frozen=True, slots=True, eq=False)
class LaunchedMaps:
    """A batch whose work is under way.

    Attributes:
        inputs: in the order in which the caller gave them.
        labels: uint8, the classes of all pixels of the first input's picture, then of the second's, ...
    """

    inputs: tuple[DeviceSegmenterInput, ...]
    labels: HostCopy


def launch_maps(engine: DeviceBatches, inputs: tuple[DeviceSegmenterInput, ...], keep: bool) -> LaunchedMaps:
    """Start the work of a batch of one shape, in the current stream of the engine; see ``DeviceBatches.launch``.

    Without ``keep`` its buffers are for this batch alone.
    """
    order = side_by_side(inputs)
    bucket, size_hw = bucket_of(len(inputs)), inputs[0].letterbox.padded_hw

    def make_call() -> tuple[Function, tuple[Tensor]]:
        return engine.network, (engine.images(bucket, size_hw),)

    call = engine.calls.call((bucket, size_hw), make_call, keep=keep)
    engine.write([inputs[row] for row in order], call.inputs[0])
    logits_BKhw = engine.calls.run(call)
    ends = np.cumsum([math.prod(item.letterbox.source_hw) for item in inputs]).tolist()
    labels = torch.empty(ends[-1], dtype=torch.uint8, device=engine.device)
    places = np.argsort(order).tolist()  # where in the batch each input lies
    # One picture at a time: the logits of a batch at full size would fill the device. Sizes differ, so no graph of it.
    for item, place, start, end in zip(inputs, places, [0, *ends], ends, strict=False):
        labels[start:end] = labels_at_source(logits_BKhw[place], item.letterbox).flatten()
    return LaunchedMaps(inputs, engine.to_host(labels))


def read_maps(batch: LaunchedMaps) -> list[SegmentationMap]:
    """Return the maps of a launched batch, in the order of its inputs, once the device is done."""
    sizes = [item.letterbox.source_hw for item in batch.inputs]
    flat = np.split(batch.labels.wait().numpy(), np.cumsum([math.prod(size) for size in sizes])[:-1])
    # Arrays of their own: a map that is kept must not keep the pinned memory of its whole batch.
    return [
        item.reading.read_labels(labels.reshape(size).copy())
        for item, labels, size in zip(batch.inputs, flat, sizes, strict=True)
    ]
