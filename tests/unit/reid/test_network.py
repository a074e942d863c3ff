"""Laws of the embedding network: unit norm, cut backbone, gradients, export to ONNX with any batch size."""

import numpy as np
import pytest
import torch

from vision.backbones.registry import build_backbone
from vision.errors import ConfigError, InvalidInputError
from vision.reid.network import HEAD_CHANNELS, EmbeddingNetwork, cut_backbone, generalised_mean
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_engine import OnnxEngine, export


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), dim=16).eval()


@torch.inference_mode()
def test_embeddings_have_unit_norm(network):
    embeddings = network(torch.randn(3, 3, 128, 64))
    assert embeddings.shape == (3, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


@torch.inference_mode()
def test_embedding_is_the_normalised_feature_after_the_neck(network):
    crops = torch.randn(2, 3, 64, 32)
    raw, centred = network.features(crops)
    torch.testing.assert_close(network.neck(raw), centred)
    torch.testing.assert_close(network(crops), torch.nn.functional.normalize(centred))


def test_stages_after_the_stride_are_left_out():
    backbone = build_backbone("tf_efficientnet_lite0")
    cut = cut_backbone(backbone, 16)
    assert cut.strides == (4, 8, 16)
    assert len(cut.stages) == 3
    assert cut.stages[0] is backbone.stages[0]
    assert cut.normalization == backbone.normalization


@pytest.mark.parametrize("stride", [8, 32])
def test_other_strides(stride):
    network = EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), stride=stride, dim=8).eval()
    assert network.backbone.strides[-1] == stride
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 128, 64)).shape == (1, 8)


@torch.inference_mode()
def test_stripes_pool_their_rows_and_join_the_embedding():
    torch.manual_seed(0)
    network = EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), dim=8, stripes=4).eval()
    crops = torch.randn(2, 3, 128, 64)
    pools = network.pools(crops)
    assert pools.shape == (2, 5, HEAD_CHANNELS)
    feature_map = network.head(network.backbone(crops)[-1])
    torch.testing.assert_close(pools[:, 0], generalised_mean(feature_map))
    for stripe in range(4):
        rows = feature_map[:, :, 2 * stripe : 2 * stripe + 2]
        torch.testing.assert_close(pools[:, 1 + stripe], generalised_mean(rows))
    raw, centred = network.embed_pools(pools)
    torch.testing.assert_close(network.features(crops), (raw, centred))
    assert network(crops).shape == (2, 8)


def test_one_stripe_is_the_whole_map():
    network = EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), dim=8, stripes=1)
    assert network.stripes == 0
    assert network.projection.in_features == HEAD_CHANNELS


@torch.inference_mode()
def test_a_dense_last_stage_keeps_the_map_and_the_weights():
    plain, dense = (
        EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), stride=32, dim=8, dense=dense).eval()
        for dense in (False, True)
    )
    dense.load_state_dict(plain.state_dict())
    crops = torch.randn(1, 3, 128, 64)
    assert plain.backbone(crops)[-1].shape[2:] == (4, 2)
    assert dense.backbone(crops)[-1].shape[2:] == (8, 4)
    torch.testing.assert_close(dense.backbone(crops)[2], plain.backbone(crops)[2])
    assert dense(crops).shape == (1, 8)


def test_stripes_export_for_any_batch():
    torch.manual_seed(0)
    network = EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), dim=8, stripes=4).eval()
    engine = OnnxEngine(export(network, EngineInput(example_hw=(64, 32), dynamic_hw=False, digest="")), threads=1)
    crops = np.random.default_rng(0).normal(size=(3, 3, 64, 32)).astype(np.float32)
    (embeddings,) = engine.run(crops)
    with torch.inference_mode():
        np.testing.assert_allclose(embeddings, network(torch.from_numpy(crops)).numpy(), atol=1e-4)


def test_wrong_settings_are_refused():
    backbone = build_backbone("tf_efficientnet_lite0")
    with pytest.raises(InvalidInputError, match="strides"):
        EmbeddingNetwork(backbone, stride=12)
    with pytest.raises(ConfigError, match="dim"):
        EmbeddingNetwork(backbone, dim=0)
    with pytest.raises(ConfigError, match="stripes"):
        EmbeddingNetwork(backbone, stripes=-1)


def test_generalised_mean_of_a_constant_map_is_the_constant():
    torch.testing.assert_close(generalised_mean(torch.full((2, 3, 4, 5), 2.5)), torch.full((2, 3), 2.5))


def test_generalised_mean_lies_between_mean_and_maximum():
    features = torch.rand(2, 8, 4, 4)
    pooled = generalised_mean(features)
    assert (pooled >= features.mean(dim=(2, 3))).all()
    assert (pooled <= features.amax(dim=(2, 3))).all()


def test_gradient_is_finite_where_a_channel_is_zero():
    features = torch.zeros(1, 2, 3, 3, requires_grad=True)
    generalised_mean(features).sum().backward()
    assert torch.isfinite(features.grad).all()


def test_exported_network_gives_the_same_embeddings_for_any_batch(network):
    model = export(network, EngineInput(example_hw=(128, 64), dynamic_hw=False, digest=""))
    engine = OnnxEngine(model, threads=1)
    for count in (1, 5):
        crops = np.random.default_rng(count).normal(size=(count, 3, 128, 64)).astype(np.float32)
        (embeddings,) = engine.run(crops)
        with torch.inference_mode():
            np.testing.assert_allclose(embeddings, network(torch.from_numpy(crops)).numpy(), atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
