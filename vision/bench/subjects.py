"""What can be measured: a model of the store at one input size, or a backbone without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from vision.backbones.registry import build_backbone
from vision.build import build_detector, build_embedder, build_frame_classifier, build_segmenter
from vision.card import ModelCard
from vision.classification.config import ClassifierConfig
from vision.detection.config import DetectorConfig
from vision.geometry.letterbox import Letterbox
from vision.reid.config import EmbedderConfig
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine, default_threads, resolve_device
from vision.runtime.preprocess import preprocess
from vision.segmentation.config import SegmenterConfig
from vision.types import Frame, ImageArray

Call = Callable[[], object]
KINDS = ("detector", "embedder", "classifier", "segmenter")
WHOLE = "whole"  # a segmenter that takes pictures as large as they are
BACKBONE_SIZE = 224
PICTURE_SIDE = 640
CROP_HW = (256, 128)
# Not trained and not learned: their tensors are statistics of batch norm.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Subject:
    """One model at one input size.

    Attributes:
        name: of the model or backbone.
        kind: "detector", "embedder", "classifier", "segmenter" or "backbone".
        size: of the network input: the longer side of a detector's, segmenter's or backbone's, else height x width.
        parameters: that training can change.
        file_bytes: of the weights file; None without one.
        start: returns the whole call for one picture (preprocess, engine, decode) with the network in its engine.
        card: of the model; None for a backbone.
        own_size: whether ``size`` is what the card says, for which its metrics hold.
    """

    name: str
    kind: str
    size: str
    parameters: int
    file_bytes: int | None
    start: Callable[[RuntimeConfig], Call]
    card: ModelCard | None = None
    own_size: bool = True


def patch_picture(side: int = PICTURE_SIDE) -> ImageArray:
    """Return a square picture uint8 [side, side, 3] of coloured patches, the same in every run.

    Square, because the times of others are those of square inputs; patches, because a plain colour would be cheap to
    resize from the cache and to decode.
    """
    random = np.random.default_rng(0)
    patches = random.integers(0, 256, (-(-side // 16), -(-side // 16), 3), np.uint8)
    return np.ascontiguousarray(patches.repeat(16, axis=0).repeat(16, axis=1)[:side, :side])


def model_subjects(card: ModelCard, sizes: Sequence[int], picture: ImageArray) -> Iterator[Subject]:
    """Yield a model at each size, or at its own; embedders and classifiers know only their own."""
    base = Subject(
        name=card.name,
        kind=card.kind,
        size="",
        parameters=count_parameters(card.weights_path),
        file_bytes=card.weights_path.stat().st_size,
        start=partial(_start_model, card, 0, picture),
        card=card,
    )
    own = card.preprocess.get("long_side")
    if own is None:
        yield replace(base, size="x".join(str(side) for side in card.preprocess.get("size_hw", ())))
        return
    for size in sizes or (int(own),):
        yield replace(
            base,
            size=str(size) if size else WHOLE,
            start=partial(_start_model, card, size, picture),
            own_size=size == own,
        )


def backbone_subjects(name: str, sizes: Sequence[int], picture: ImageArray) -> Iterator[Subject]:
    """Yield a backbone with random weights at each size, or at 224; raises ModelNotFoundError for an unknown name."""
    network = build_backbone(name)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    for size in sizes or (BACKBONE_SIZE,):
        yield Subject(
            name=name,
            kind="backbone",
            size=str(size),
            parameters=parameters,
            file_bytes=None,
            start=partial(_start_backbone, name, size, picture),
        )


def count_parameters(weights: Path) -> int:
    """Return how many numbers of a safetensors file are parameters; only its header is read."""
    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if not key.endswith(STATISTICS)]  # noqa: SIM118
    return sum(int(np.prod(shape)) for shape in shapes)


def _start_model(card: ModelCard, size: int, picture: ImageArray, runtime: RuntimeConfig) -> Call:
    """Return the call that a user makes for one picture, or for one crop of an embedder."""
    # The folder, not the name: a model that was given as a folder may share its name with one of the store.
    model = str(card.folder)
    if card.kind == "embedder":
        embedder = build_embedder(EmbedderConfig(model=model), runtime)
        assert embedder is not None
        crop = picture[: CROP_HW[0], : CROP_HW[1]]
        return lambda: embedder.embed_crops([crop])
    frame = Frame(picture)
    if card.kind == "classifier":
        classifier = build_frame_classifier(ClassifierConfig(model=model), runtime)
        return lambda: classifier.classify([frame])
    if card.kind == "segmenter":
        segmenter = build_segmenter(SegmenterConfig(model=model, long_side=size), runtime)
        return lambda: segmenter.segment([frame])
    detector = build_detector(DetectorConfig(model=model, long_side=size), runtime)
    return lambda: detector.detect([frame])


def _start_backbone(name: str, size: int, picture: ImageArray, runtime: RuntimeConfig) -> Call:
    network = build_backbone(name)
    multiple = max(network.strides)
    letterbox = Letterbox.fit((picture.shape[0], picture.shape[1]), long_side=size, multiple=multiple)
    normalization = network.normalization
    engine = _start_engine(network, letterbox.padded_hw, runtime)
    return lambda: engine.run(preprocess(picture, letterbox, normalization)[None])


def _start_engine(network: nn.Module, size_hw: tuple[int, int], runtime: RuntimeConfig) -> Engine:
    """Return the engine for random weights; unlike ``build_engine`` it leaves no export of them in the cache."""
    spec = EngineInput(example_hw=size_hw, dynamic_hw=False, digest="random")
    if runtime.engine == "torch" or resolve_device(runtime.device).type == "cuda":
        return build_engine(network, spec, runtime)
    from vision.runtime.onnx_engine import OnnxEngine, export

    return OnnxEngine(export(network.eval(), spec), threads=runtime.threads or default_threads())
