"""A classifier's dense layers turned into convolutions, so that one run evaluates every window of a larger picture.

Sermanet et al. 2013 (OverFeat, section 3.5) and Long et al. 2015 (FCN, section 3.1): a dense layer over a feature map
of k x k cells is a convolution with a k x k kernel, and every later dense layer one with a 1 x 1 kernel. Global average
pooling becomes an average over the window of the native input, moved by one cell at a time. At the native size the
result has one cell and equals the classifier's logits; on a larger picture it has one for each window. The sliding
window detector and the FCN segmenter are made by this function.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vision.backbones.interface import Backbone, Classifier
from vision.errors import InvalidInputError

# Layers that treat every element alike, before and after the flattening.
ELEMENTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Tanh,
    nn.Sigmoid,
)


class ConvolutionalClassifier(nn.Module):
    """A classifier without dense layers: images [B,3,H,W] to logits [B,K,h,w], one cell for each window.

    Attributes:
        backbone: the classifier's feature extractor.
        head: its head as convolutions.
        native_hw: size of the input whose logits have a single cell.
    """

    def __init__(
        self, backbone: Backbone, head: nn.Sequential, *, num_classes: int, native_hw: tuple[int, int]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.num_classes = num_classes
        self.native_hw = native_hw

    def forward(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return logits [B, K, h, w] of images at least as large as ``native_hw``."""
        logits: Tensor = self.head(self.backbone(images_BCHW)[-1])
        return logits


def convert_classifier(classifier: Classifier, *, native_hw: tuple[int, int] | None = None) -> ConvolutionalClassifier:
    """Return a fully convolutional copy of a classifier; its logits at the native size are the classifier's own.

    Args:
        classifier: its head is a chain of convolutions, pooling, one flattening and dense layers. It stays as it is:
            weights are copied.
        native_hw: height and width of the window, by default the size that the classifier is made for.

    Raises:
        InvalidInputError: the head has a layer that has no convolutional form, or pools to a grid that does not divide
            its feature map.
    """
    size_hw = native_hw or classifier.native_hw
    source = copy.deepcopy(classifier).eval()
    with torch.no_grad():
        device = next(source.parameters()).device
        features = source.backbone(torch.zeros(1, 3, *size_hw, device=device))[-1]
        head = _convolutional_head(source.head, features)
    converted = ConvolutionalClassifier(source.backbone, head, num_classes=classifier.num_classes, native_hw=size_hw)
    return converted.train(classifier.training)


def _convolutional_head(head: nn.Module, features: Tensor) -> nn.Sequential:
    """Return the head as convolutions; ``features`` is its input at the native size and is followed through it."""
    layers: list[nn.Module] = []
    x = features
    # Pooling to a grid of cells is an average moved by one cell; the layer behind it then looks at every n-th cell.
    dilation = (1, 1)
    grid = x
    for layer in _flat(head):
        y = layer(x)
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            pool, dilation = _average_pooling(x, y)
            layers.append(pool)
        elif isinstance(layer, nn.Flatten):
            grid = x
        elif isinstance(layer, nn.Linear):
            kernel_hw = (1, 1) if grid.ndim == 2 else (grid.shape[2], grid.shape[3])
            layers.append(_as_convolution(layer, kernel_hw, dilation))
            grid, dilation = y, (1, 1)
        elif isinstance(layer, nn.BatchNorm1d):
            layers.append(_as_2d_norm(layer))
        elif isinstance(layer, ELEMENTWISE) or (x.ndim == 4 and y.ndim == 4):
            layers.append(layer)
        else:
            raise InvalidInputError(
                "a classifier's head must be made of convolutions, pooling, nn.Flatten, nn.Linear and elementwise "
                f"layers to become convolutional, found {type(layer).__name__}; replace that layer"
            )
        x = y
    return nn.Sequential(*layers)


def _flat(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested ``nn.Sequential`` in order."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _flat(child)
    else:
        yield module


def _average_pooling(x: Tensor, y: Tensor) -> tuple[nn.Module, tuple[int, int]]:
    """Return the pooling that gives ``y`` from ``x`` and moves by one cell, and its window."""
    (height, width), (rows, columns) = x.shape[2:], y.shape[2:]
    if height % rows or width % columns:
        raise InvalidInputError(
            "adaptive pooling must divide its feature map to become convolutional, got "
            f"{height} x {width} cells pooled to {rows} x {columns}; give another native_hw"
        )
    window = (height // rows, width // columns)
    return (nn.Identity() if window == (1, 1) else nn.AvgPool2d(window, stride=1)), window


def _as_convolution(linear: nn.Linear, kernel_hw: tuple[int, int], dilation: tuple[int, int]) -> nn.Conv2d:
    """Return the convolution that a dense layer over a flattened [C, *kernel_hw] map is."""
    channels = linear.in_features // (kernel_hw[0] * kernel_hw[1])
    # The same numbers in another shape: a VGG's first dense layer alone has 411 MB, which need no second copy.
    with torch.device("meta"):
        convolution = nn.Conv2d(
            channels, linear.out_features, kernel_hw, dilation=dilation, bias=linear.bias is not None
        )
    weight = linear.weight.detach().reshape(convolution.weight.shape)
    convolution.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if linear.bias is not None:
        convolution.bias = nn.Parameter(linear.bias.detach(), requires_grad=linear.bias.requires_grad)
    return convolution


def _as_2d_norm(norm: nn.BatchNorm1d) -> nn.BatchNorm2d:
    """Return the batch norm of maps with the statistics of a batch norm of vectors."""
    converted = nn.BatchNorm2d(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
    )
    converted.load_state_dict(norm.state_dict())
    return converted.requires_grad_(all(parameter.requires_grad for parameter in norm.parameters()))
