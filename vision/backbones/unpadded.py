"""A backbone without padding, in which a picture's border is nowhere but at the border of the picture.

A padded convolution sees zeros beside the edge of its input, so a window cut out of a picture gives other features
than the same window inside it. Without padding every output depends on its receptive field alone: a crop of that field
gives one cell, and it is the cell that the whole picture gives there. Pretrained weights keep their meaning, for away
from the border a padded network computes the same values.

Strides can be traded for dilation ("a trous"): the layer that would skip every other cell keeps them all, and the
layers behind it look at every other one. OverFeat (Sermanet et al. 2013, section 3.3) reaches the same finer grid by
shifting its last pooling.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from vision.backbones.convolutional import ELEMENTWISE
from vision.errors import InvalidInputError

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one output cell sees of the input.

    Attributes:
        size: side of the square it sees, in input pixels.
        stride: input pixels between neighbouring cells.
    """

    size: int = 1
    stride: int = 1

    def then(self, later: ReceptiveField) -> ReceptiveField:
        """Return the field of this layer followed by ``later``."""
        return ReceptiveField(self.size + (later.size - 1) * self.stride, self.stride * later.stride)


class UnpaddedResidual(nn.Module):
    """``activation(body(x) + shortcut(x))`` in which the shortcut is cut to what the unpadded body leaves."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation = activation
        # The body's output is centred in its field: half a field is lost on each side.
        self.margin = (receptive_field(body).size - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, h, w], smaller than x by the body's receptive field."""
        inner = x[:, :, self.margin : -self.margin, self.margin : -self.margin] if self.margin else x
        output: Tensor = self.activation(self.body(x) + self.shortcut(inner))
        return output


def receptive_field(module: nn.Module) -> ReceptiveField:
    """Return the receptive field of a module made by ``unpadded``; kernels are square there."""
    if isinstance(module, nn.Sequential | nn.ModuleList):
        field = ReceptiveField()
        for child in module:
            field = field.then(receptive_field(child))
        return field
    if isinstance(module, UnpaddedResidual):
        return receptive_field(module.body)
    if isinstance(module, nn.Conv2d | POOLS[0] | POOLS[1]):
        kernel, stride, dilation = (
            value if isinstance(value, int) else int(value[0])
            for value in (module.kernel_size, module.stride, getattr(module, "dilation", 1))
        )
        return ReceptiveField((kernel - 1) * dilation + 1, stride)
    return ReceptiveField()


def unpadded(module: nn.Module, *, a_trous: bool = False) -> nn.Module:
    """Return a copy of a backbone's stage without padding, weights kept.

    Args:
        module: layers, or blocks of the residual families: ResNet, MobileNetV2 and EfficientNet-Lite.
        a_trous: keep the resolution, replacing strides by dilation of the layers behind them.

    Raises:
        InvalidInputError: a layer sees the whole picture (squeeze-and-excitation), so no window of it stands alone, or
            is of a kind not known here.
    """
    return _Rewriter(a_trous).rewrite(copy.deepcopy(module))


class _Rewriter:
    """Rewrites layers in the order in which they run, for dilation is carried from layer to layer."""

    def __init__(self, a_trous: bool) -> None:
        self.a_trous = a_trous
        self.dilation = 1

    def rewrite(self, module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Conv2d):
            return self._convolution(module)
        if isinstance(module, POOLS):
            return self._pooling(module)
        if isinstance(module, nn.Sequential):
            return nn.Sequential(*(self.rewrite(child) for child in module))
        if isinstance(module, (nn.BatchNorm2d, *ELEMENTWISE)):
            return module
        return self._block(module)

    def _convolution(self, source: nn.Conv2d) -> nn.Conv2d:
        stride, dilation = int(source.stride[0]), int(source.dilation[0]) * self.dilation
        if self.a_trous:
            self.dilation *= stride
            stride = 1
        layer = nn.Conv2d(
            source.in_channels,
            source.out_channels,
            (source.kernel_size[0], source.kernel_size[1]),
            stride=stride,
            dilation=dilation,
            groups=source.groups,
            bias=source.bias is not None,
        )
        layer.load_state_dict(source.state_dict())
        return layer

    def _pooling(self, source: nn.MaxPool2d | nn.AvgPool2d) -> nn.Module:
        kernel, stride = int(source.kernel_size), int(source.stride)  # type: ignore[arg-type]  # square in all backbones
        dilation = self.dilation
        if self.a_trous:
            self.dilation *= stride
            stride = 1
        if isinstance(source, nn.MaxPool2d):
            return nn.MaxPool2d(kernel, stride, dilation=dilation)
        if dilation > 1:
            raise InvalidInputError(
                "average pooling behind a removed stride has no dilated form, found one of "
                f"{kernel} x {kernel} cells; take fewer blocks"
            )
        return nn.AvgPool2d(kernel, stride)

    def _block(self, block: nn.Module) -> nn.Module:
        """Rewrite one residual block of timm or torchvision, known by the names of its layers."""
        if hasattr(block, "downsample") and hasattr(block, "conv2"):  # torchvision BasicBlock and Bottleneck
            return self._resnet_block(block)
        if hasattr(block, "conv_dw"):  # timm DepthwiseSeparableConv and InvertedResidual
            names: Sequence[str] = ("conv_pw", "bn1", "conv_dw", "bn2", "aa", "se", "conv_pwl", "bn3")
            if not hasattr(block, "conv_pwl"):
                names = ("conv_dw", "bn1", "aa", "se", "conv_pw", "bn2")
            body = self._chain(block, names)
            return self._residual(body, bool(getattr(block, "has_skip", False)))
        for name in ("conv", "block"):  # torchvision MobileNetV2 and V3
            chain = getattr(block, name, None)
            if isinstance(chain, nn.Sequential) and hasattr(block, "use_res_connect"):
                return self._residual(self._sequential(chain), bool(block.use_res_connect))
        if isinstance(block, nn.Module) and type(block).__name__ == "DropPath":
            return nn.Identity()
        raise InvalidInputError(
            "a backbone without padding is made of convolutions, pooling, norms, activations and residual blocks, "
            f"found {type(block).__name__}; choose tf_efficientnet_lite0, a ResNet or a VGG"
        )

    def _resnet_block(self, block: nn.Module) -> nn.Module:
        layers: Sequence[str] = ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3")
        before = self.dilation
        body = self._chain(block, layers if hasattr(block, "conv3") else layers[:5])
        after, self.dilation = self.dilation, before
        downsample = block.downsample
        shortcut = nn.Identity() if downsample is None else self.rewrite(downsample)  # type: ignore[arg-type]
        self.dilation = after
        return UnpaddedResidual(body, shortcut, nn.ReLU())

    def _residual(self, body: nn.Sequential, skips: bool) -> nn.Module:
        return UnpaddedResidual(body, nn.Identity(), nn.Identity()) if skips else body

    def _chain(self, block: nn.Module, names: Sequence[str]) -> nn.Sequential:
        return self._sequential(nn.Sequential(*(getattr(block, name) for name in names if hasattr(block, name))))

    def _sequential(self, chain: nn.Sequential) -> nn.Sequential:
        return nn.Sequential(*(self.rewrite(layer) for layer in chain))
