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

from vision.backbones.recipe import Recipe
from vision.backbones.registry import CLASSIFIERS, build_classifier
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
    with pytest.raises(WeightsError, match=r"expected conv_stem\.weight \(32, 3, 3, 3\), found .* \(16, 3, 3, 3\)"):
        build_classifier(LITE0, pretrained=saved(lite0_state, tmp_path / "odd.pth"))
    renamed = {f"tensor_{index}": value for index, value in enumerate(lite0_state.values())}
    with pytest.raises(WeightsError, match=r"tensor_0 must have shape \(32, 3, 3, 3\) .*, got \(16, 3, 3, 3\)"):
        build_classifier(LITE0, pretrained=saved(renamed, tmp_path / "odd.pth"))


# --- torchvision's families ---


def shrunk(name: str) -> Any:
    """Return torchvision's network with narrow dense layers: nine tenths of a VGG's weights are in two of them."""
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
        linears = [index for index, layer in enumerate(network.classifier) if isinstance(layer, torch.nn.Linear)]
        for index, outputs in zip(linears[:-1], (12, 8), strict=True):
            inputs = network.classifier[index].in_features if index == linears[0] else 12
            network.classifier[index] = torch.nn.Linear(inputs, outputs)
        network.classifier[linears[-1]] = torch.nn.Linear(8, 1000)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return randomise(network)


def make(name: str, **arguments: Any) -> Any:
    return randomise(getattr(torchvision.models, name)(weights=None, **arguments))


NETWORKS = ["alexnet", "vgg11", "vgg11_bn", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small"]


@pytest.mark.parametrize("name", [*NETWORKS, "mobilenet_v3_large"])
def test_the_cut_network_equals_torchvisions_own(name: str) -> None:
    torch.manual_seed(3)
    network = shrunk(name) if name.startswith(("alexnet", "vgg")) else make(name)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = network(images)
        ours = CLASSIFIERS[name].cut(network).eval()
        assert expected.std() > 1e-5
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=0)


def test_googlenet_equals_torchvisions_own_on_its_own_normalisation(tmp_path: Path) -> None:
    network = make("googlenet", aux_logits=True, init_weights=False, transform_input=True)
    path = saved(network.state_dict(), tmp_path / "googlenet.pth")  # with both auxiliary classifiers
    ours = build_classifier("googlenet", pretrained=path).eval()
    pixels = torch.rand(2, 3, 64, 96) * 255
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    half = ours.backbone.normalization
    with torch.inference_mode():
        expected = network((pixels - mean[:, None, None]) / std[:, None, None])
        assert expected.std() > 1e-3
        found = ours((pixels - half.mean[0]) / half.std[0])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_resnet_weights_from_a_file(resnet: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        torch.save(resnet.state_dict(), path)
    else:
        save_file(resnet.state_dict(), path)
    ours = build_classifier("resnet18", pretrained=path).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), resnet(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn"])
def test_old_files_hold_parameters_in_the_old_format_without_counters(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = shrunk(name)
    monkeypatch.setitem(CLASSIFIERS, name, Recipe(make=lambda: shrunk(name), cut=CLASSIFIERS[name].cut))
    state = {key: value for key, value in network.state_dict(keep_vars=True).items() if "batches_tracked" not in key}
    assert any(isinstance(value, torch.nn.Parameter) for value in state.values())
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    ours = build_classifier(name, pretrained=path).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), network(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v2"])
def test_other_classes_keep_all_of_the_head_but_its_last_layer(name: str, tmp_path: Path) -> None:
    network = make(name)
    path = saved(network.state_dict(), tmp_path / "weights.pth")
    ours = build_classifier(name, 5, pretrained=path)
    assert ours.head[-1].out_features == 5
    assert torch.equal(ours.head[0].weight, network.features[-1][0].weight)


def test_a_checkpoint_of_another_shape_names_both_sides(resnet: Any, tmp_path: Path) -> None:
    state = {**resnet.state_dict(), "fc.weight": torch.zeros(10, 512)}
    with pytest.raises(
        WeightsError,
        match=r"odd\.pth does not fit ResNet: expected fc.weight \(1000, 512\), found fc.weight \(10, 512\)",
    ) as caught:
        build_classifier("resnet18", pretrained=saved(state, tmp_path / "odd.pth"))
    assert caught.value.path == tmp_path / "odd.pth"


def test_a_checkpoint_of_another_network_names_both_sides(resnet: Any, tmp_path: Path) -> None:
    path = saved(resnet.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit MobileNetV3: expected classifier\.0.*, found bn1\..*missing, .* unknown"
    ):
        build_classifier("mobilenet_v3_small", pretrained=path)


def test_own_networks_load_by_their_own_names(tmp_path: Path) -> None:
    trained = build_classifier("lenet5", 10)
    ours = build_classifier("lenet5", 10, pretrained=saved(trained.state_dict(), tmp_path / "lenet5.pth"))
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in trained.state_dict().items())


# --- files that are no checkpoints ---


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
