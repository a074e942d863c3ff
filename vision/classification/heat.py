"""Where in a picture a classifier sees a class: its convolutional form, run once over the whole picture.

The dense layers become convolutions (``vision.backbones.convolutional``), which classify every window of a grid at
once. A heat map is the probability of one class at each pixel, interpolated between the centres of the windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from vision.backbones.convolutional import convert_classifier
from vision.classification.classifier import LoadedNetwork
from vision.classification.config import ClassifierConfig
from vision.classification.readout import Readout, read_logits
from vision.errors import ConfigError, InvalidInputError, closest_hint
from vision.geometry.letterbox import Letterbox
from vision.render import Annotator, write_classification
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.preprocess import Normalization, preprocess
from vision.types import Classification, FloatArray, Frame, FrameResult, ImageArray

# Cold parts fade to this share of their brightness, hot ones get this much colour.
_FADED, _OPACITY = 0.45, 0.7


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Where the windows lie of which the network gives one cell each.

    Attributes:
        window_hw: height and width of a window in pixels of the network's input.
        stride: pixels between neighbouring windows, the first of which begins in the corner (0, 0).
        long_side: longer side in pixels that a picture is scaled to.
    """

    window_hw: tuple[int, int]
    stride: int
    long_side: int

    def letterbox(self, size_hw: tuple[int, int]) -> Letterbox:
        """Return how a picture becomes the input, which holds at least one window."""
        fitted = Letterbox.fit(size_hw, long_side=self.long_side, multiple=self.stride)
        height, width = (max(pair) for pair in zip(fitted.padded_hw, self.window_hw, strict=True))
        return replace(fitted, padded_hw=(height, width))

    def spread(self, cells: FloatArray, letterbox: Letterbox) -> FloatArray:
        """Return float32 [H, W] of the original picture from one number a window [h, w].

        Bilinear between the centres of the windows; beyond the outermost ones their values go on.
        """
        x, y = (
            ((np.arange(pixels) + 0.5) * scale - side / 2) / self.stride
            for pixels, scale, side in zip(
                letterbox.source_hw[::-1], letterbox.scale_xy, self.window_hw[::-1], strict=True
            )
        )
        columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        spread = cv2.remap(cells, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(spread, np.float32)


class HeatMapper:
    """Gives probabilities of all windows of a picture. Stateless between calls: threads may share it.

    Attributes:
        grid: where the windows lie.
        readout: what the outputs mean.
    """

    def __init__(self, engine: Engine, *, grid: WindowGrid, readout: Readout, normalization: Normalization) -> None:
        self.grid = grid
        self.readout = readout
        self._normalization = normalization
        self._engine = engine

    def windows(self, image: ImageArray) -> FloatArray:
        """Return the probabilities float32 [K, h, w] of the windows of a picture uint8 [H, W, 3]."""
        letterbox = self.grid.letterbox((image.shape[0], image.shape[1]))
        logits = self._engine.run(preprocess(image, letterbox, self._normalization)[None])[0][0]
        rows = logits.reshape(len(logits), -1).T
        return np.ascontiguousarray(read_logits(rows, self.readout).T).reshape(logits.shape)

    def heat(self, image: ImageArray, label: int) -> FloatArray:
        """Return the probability float32 [H, W] of a label at each pixel: that of the window around it."""
        letterbox = self.grid.letterbox((image.shape[0], image.shape[1]))
        return self.grid.spread(self.windows(image)[label], letterbox)


def build_heat_mapper(loaded: LoadedNetwork, config: ClassifierConfig, runtime: RuntimeConfig) -> HeatMapper:
    """Return the heat mapper of a classifier network.

    Raises:
        ConfigError: the network measures a value, has no class of that name, or cannot have windows of that size.
    """
    readout, side = loaded.readout, config.heat_window
    heat_label(config, readout)
    window_hw = (side, side) if side else loaded.spec.size_hw
    try:
        network = convert_classifier(loaded.network, native_hw=window_hw)
    except (InvalidInputError, RuntimeError) as exc:
        raise ConfigError(
            f"classification.heat_window must be a window that {loaded.network.backbone.name} can classify, got "
            f"{window_hw[0]} x {window_hw[1]} pixels ({exc}); 0 takes the model's own"
        ) from exc
    stride = loaded.network.backbone.strides[-1]
    if any(pixels % stride for pixels in window_hw):
        raise ConfigError(
            f"classification.heat_window must be a multiple of the stride {stride}, got {side}; 0 takes the model's own"
        )
    grid = WindowGrid(window_hw, stride, config.heat_long_side)
    example_hw = (window_hw[0] + stride, window_hw[1] + 2 * stride)
    engine = build_engine(network, EngineInput(example_hw, dynamic_hw=True, digest=loaded.digest), runtime)
    return HeatMapper(engine, grid=grid, readout=readout, normalization=loaded.spec.normalization)


def heat_label(config: ClassifierConfig, readout: Readout) -> int | None:
    """Return the label of ``heat_class``, or None where each picture shows its own best class; raises ConfigError."""
    if readout.task == "regression":
        raise ConfigError("a heat map needs a model of classes, this one measures a value; train one with --task")
    if not config.heat_class:
        return None
    if config.heat_class not in readout.class_names:
        raise ConfigError(
            f"classification.heat_class must be a class of the model, got {config.heat_class!r}"
            f"{closest_hint(config.heat_class, readout.class_names)}; leave it out for each picture's best class"
        )
    return readout.class_names.index(config.heat_class)


class HeatAnnotator(Annotator):
    """Draws the heat map of one class onto each picture: faded where it is not, glowing where it is.

    Args:
        mapper: computes the maps.
        label: of the class; None takes the best class of the picture's classification.
    """

    def __init__(self, mapper: HeatMapper, label: int | None = None) -> None:
        super().__init__(mapper.readout.class_names)
        self._mapper = mapper
        self._label = label

    def draw(self, frame: Frame, result: FrameResult) -> ImageArray:
        """Return a uint8 [H, W, 3] RGB copy with the map, the name of its class and the highest probability."""
        label = self._label
        if label is None:
            if result.classification is None or not len(result.classification.labels):
                raise InvalidInputError("a heat map needs a class, got a result without; name one (heat_class)")
            label = int(result.classification.labels[0])
        heat = self._mapper.heat(frame.image, label)
        picture = draw_heat(frame.image, heat)
        score = np.array([heat.max()], np.float32)
        name = self._mapper.readout.class_names[label]
        write_classification(picture, Classification(np.array([label]), score, (name,), assigned=1))
        return picture


def draw_heat(image: ImageArray, heat: FloatArray) -> ImageArray:
    """Return an RGB copy in which the colours, from none over red to yellow, tell the heat in parts of its maximum.

    Args:
        image: uint8 [H, W, 3].
        heat: float32 [H, W], >= 0.
    """
    share = heat / max(float(heat.max()), 1e-9)
    colours = cv2.applyColorMap(np.round(share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    strength = share[..., None]
    base = image * (_FADED + (1 - _FADED - _OPACITY / 2) * strength)
    return np.asarray(np.clip(base + _OPACITY * strength * colours, 0, 255), np.uint8)
