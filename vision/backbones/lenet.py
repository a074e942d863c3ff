"""The smallest classifiers: perceptron, multi-layer perceptron and LeNet-5, for 32 x 32 pictures in grey or colour.

They have the interface of the large ones, so the training, the sliding window and the conversion to convolutions work
on them as well. None serves as the backbone of an anchor detector: they have no pyramid of strides up to 32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from vision.backbones.interface import HALF_RANGE_NORMALIZATION, Backbone, Classifier, chain
from vision.backbones.recipe import Recipe

NATIVE_HW = (32, 32)
# Luma of Rec. 601, the grey of common image libraries; the sum is 1, so a normalised grey picture keeps its values.
LUMA = (0.299, 0.587, 0.114)


class Luma(nn.Module):
    """Grey from colour: [B, 3, H, W] to [B, 1, H, W], without weights; a grey picture in three equal channels is
    unchanged."""

    def forward(self, x_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return the weighted sum of the channels."""
        red, green, blue = LUMA
        return red * x_BCHW[:, 0:1] + green * x_BCHW[:, 1:2] + blue * x_BCHW[:, 2:3]


def perceptron() -> Recipe:
    """Return the recipe of one linear layer on the 32 x 32 grey values (Rosenblatt 1958, with a softmax loss)."""
    return _own(_build_perceptron)


def _build_perceptron() -> Classifier:
    return _on_grey_pixels("perceptron", nn.Dropout(0.0), nn.Linear(NATIVE_HW[0] * NATIVE_HW[1], 10))


def mlp() -> Recipe:
    """Return the recipe of one hidden layer of 128 units on the 32 x 32 grey values (Rumelhart 1986, with ReLU)."""
    return _own(_build_mlp)


def _build_mlp() -> Classifier:
    hidden = 128
    return _on_grey_pixels(
        "mlp",
        nn.Linear(NATIVE_HW[0] * NATIVE_HW[1], hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.0),
        nn.Linear(hidden, 10),
    )


def _on_grey_pixels(name: str, *layers: nn.Module) -> Classifier:
    """Return a classifier whose only feature map is the grey picture itself."""
    backbone = Backbone(name, [Luma()], strides=(1,), channels=(1,), normalization=HALF_RANGE_NORMALIZATION)
    head = chain(nn.AdaptiveAvgPool2d(NATIVE_HW), nn.Flatten(1), *layers)
    return Classifier(backbone, head, num_classes=10, native_hw=NATIVE_HW)


def lenet5(name: str, *, colour: bool) -> Recipe:
    """Return the recipe of LeNet-5 (LeCun et al. 1998, section II.B) on grey values, or on three colour channels.

    Three things are as in later practice: every map of C3 sees all maps of S2, subsampling is a plain average, and the
    outputs are linear, for a softmax, in place of radial basis functions. Nothing is padded: the feature maps of a
    32 x 32 picture have 14 and 5 cells a side.
    """
    return _own(partial(_build_lenet5, name, colour=colour))


def _build_lenet5(name: str, *, colour: bool) -> Classifier:
    first = [nn.Conv2d(3, 6, 5)] if colour else [Luma(), nn.Conv2d(1, 6, 5)]
    backbone = Backbone(
        name,
        [
            nn.Sequential(*first, nn.Tanh(), nn.AvgPool2d(2)),
            nn.Sequential(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        ],
        strides=(2, 4),
        channels=(6, 16),
        trim=(2, 3),
        normalization=HALF_RANGE_NORMALIZATION,
    )
    # The paper calls C5 a convolution because a larger picture would give it more than one position; the conversion to
    # convolutions makes it one again.
    head = chain(
        nn.AdaptiveAvgPool2d(5),
        nn.Flatten(1),
        nn.Linear(16 * 5 * 5, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Dropout(0.0),
        nn.Linear(84, 10),
    )
    return Classifier(backbone, head, num_classes=10, native_hw=NATIVE_HW)


def _own(build: Callable[[], Classifier]) -> Recipe:
    """Return the recipe of a network that is our own already, so there is nothing to cut."""
    return Recipe(make=build, cut=_as_it_is, published=False)


def _as_it_is(network: nn.Module) -> Classifier:
    assert isinstance(network, Classifier)
    return network
