"""Weights into backbones: parity with timm and torchvision, and files that do not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from vision.backbones.registry import build_classifier
from vision.backbones.timm import LITE0, SameConv2d
from vision.errors import WeightsError

State = dict[str, torch.Tensor]


def randomise(network: torch.nn.Module) -> torch.nn.Module:
    """Give the batch norms statistics that matter, so that a swapped tensor shows in the output."""
    for name, buffer in network.named_buffers():
        if "running_mean" in name:
            buffer.normal_(std=0.1)
        elif "running_var" in name:
            buffer.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def timm_network() -> Any:
    torch.manual_seed(0)
    return randomise(timm.create_model(LITE0, pretrained=False))


@pytest.fixture
def lite0_state(timm_network: Any) -> State:
    return dict(timm_network.state_dict())


@pytest.fixture(scope="module")
def resnet() -> Any:
    torch.manual_seed(1)
    return randomise(torchvision.models.resnet18(weights=None))


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize("size_hw", [(224, 224), (64, 96), (128, 64)])
def test_lite0_equals_timms_own_network(
    timm_network: Any, lite0_state: State, tmp_path: Path, size_hw: tuple[int, int]
) -> None:
    ours = build_classifier(LITE0, pretrained=saved(lite0_state, tmp_path / "lite0.pth")).eval()
    assert sum(isinstance(module, SameConv2d) for module in ours.modules()) == 5
    images = torch.randn(2, 3, *size_hw, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = timm_network(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-6)


def test_tensors_are_taken_in_order_whatever_their_names(timm_network: Any, lite0_state: State, tmp_path: Path) -> None:
    renamed = {f"tensor_{index}": value for index, value in enumerate(lite0_state.values())}
    ours = build_classifier(LITE0, pretrained=saved(renamed, tmp_path / "lite0.pth")).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), timm_network(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "inputs"), [(LITE0, 1280), ("resnet18", 512)])
def test_the_head_is_kept_for_1000_classes_only(
    name: str, inputs: int, lite0_state: State, resnet: Any, tmp_path: Path
) -> None:
    state = lite0_state if name == LITE0 else resnet.state_dict()
    path = saved(state, tmp_path / "weights.pth")
    head = list(state)[-2]
    assert torch.equal(build_classifier(name, 1000, pretrained=path).head[-1].weight, state[head])
    other = build_classifier(name, 10, pretrained=path)
    assert other.head[-1].weight.shape == (10, inputs)
    assert other.num_classes == 10
    assert torch.equal(next(other.backbone.parameters()), next(iter(state.values())))


def test_too_few_tensors_name_both_counts(lite0_state: State, tmp_path: Path) -> None:
    short = dict(list(lite0_state.items())[:-1])
    with pytest.raises(WeightsError, match=rf"short\.pth must hold {len(lite0_state)} tensors .* got {len(short)}"):
        build_classifier(LITE0, pretrained=saved(short, tmp_path / "short.pth"))


def test_a_wrong_shape_names_both_shapes(lite0_state: State, tmp_path: Path) -> None:
    lite0_state["conv_stem.weight"] = torch.zeros(16, 3, 3, 3)
    with pytest.raises(WeightsError, match=r"shape \(32, 3, 3, 3\) for conv_stem\.weight, got \(16, 3, 3, 3\)"):
        build_classifier(LITE0, pretrained=saved(lite0_state, tmp_path / "odd.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_resnet_equals_torchvisions_own_network(resnet: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(resnet.state_dict(), path)
    else:
        save_file(resnet.state_dict(), path)
    ours = build_classifier("resnet18", pretrained=path).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), resnet(images), rtol=0, atol=1e-6)


def test_a_resnet_checkpoint_that_does_not_fit(resnet: Any, tmp_path: Path) -> None:
    state = {**resnet.state_dict(), "fc.weight": torch.zeros(10, 512)}
    with pytest.raises(WeightsError, match=r"odd\.pth does not fit ResNet.*\[10, 512\].*\[1000, 512\]") as caught:
        build_classifier("resnet18", pretrained=saved(state, tmp_path / "odd.pth"))
    assert caught.value.path == tmp_path / "odd.pth"


class Trap:
    """Runs code when unpickled without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("sprung"),))  # type: ignore[return-value]


@pytest.mark.parametrize("name", [LITE0, "resnet18"])
@pytest.mark.parametrize("kind", ["pickle in torch", "bare pickle", "text", "no dictionary", "no tensors", "absent"])
def test_a_file_that_is_no_checkpoint_is_refused_in_words(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if kind == "pickle in torch":
        torch.save({"conv1.weight": Trap()}, path)
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "text":
        path.write_text("these are no weights\n")
    elif kind == "no dictionary":
        torch.save([torch.zeros(1)], path)
    elif kind == "no tensors":
        torch.save({"state_dict": {}, "epoch": 3}, path)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        build_classifier(name, pretrained=path)
    assert not (tmp_path / "sprung").exists()


def test_a_broken_safetensors_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        build_classifier("resnet18", pretrained=path)
