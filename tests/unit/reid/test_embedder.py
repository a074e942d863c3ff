"""Laws of the embedder: one batch a frame, order kept, batch of n equals n singles, every box gives a unit vector."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.backbones.registry import build_backbone
from vision.card import ModelCard
from vision.errors import ConfigError, InvalidInputError, ModelError, StateError, WeightsError
from vision.evaluation.reid import evaluate_reid
from vision.reid.embedder import Embedder, crop_slices, load_embedder
from vision.reid.network import EmbeddingNetwork
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256, find_model, load_weights
from vision.types import Frame

DIM = 16
SIZE_HW = (64, 32)


class RecordingEngine:
    """Runs the network in torch and remembers the shape of each batch."""

    def __init__(self):
        torch.manual_seed(0)
        self.network = EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), dim=DIM).eval()
        self.shapes = []

    @torch.inference_mode()
    def run(self, batch):
        self.shapes.append(batch.shape)
        return [self.network(torch.from_numpy(batch)).numpy()]


@pytest.fixture(scope="module")
def engine():
    return RecordingEngine()


@pytest.fixture
def embedder(engine):
    engine.shapes.clear()
    return Embedder(engine, dim=DIM, normalization=TENSORFLOW_NORMALIZATION, size_hw=SIZE_HW, max_batch=8)


@pytest.fixture(scope="module")
def frame():
    return Frame(np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8))


BOXES = np.float32([[10, 10, 50, 90], [60, 5, 100, 110], [0, 0, 200, 120], [150.5, 20.25, 180.75, 100]])


def test_embeddings_have_unit_norm_and_come_from_one_batch(embedder, engine, frame):
    embeddings = embedder.embed(frame, BOXES)
    assert embeddings.shape == (4, DIM)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert engine.shapes == [(4, 3, *SIZE_HW)]


def test_order_is_kept(embedder, frame):
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(embedder.embed(frame, BOXES[order]), embedder.embed(frame, BOXES)[order], atol=1e-5)


def test_batch_of_n_equals_n_singles(embedder, frame):
    singles = np.concatenate([embedder.embed(frame, BOXES[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(embedder.embed(frame, BOXES), singles, atol=1e-5)


def test_crowded_frames_are_split(embedder, engine, frame):
    boxes = np.repeat(BOXES, 5, axis=0)
    embeddings = embedder.embed(frame, boxes)
    assert [shape[0] for shape in engine.shapes] == [8, 8, 4]
    np.testing.assert_allclose(embeddings, np.repeat(embeddings[::5], 5, axis=0), atol=1e-5)


def test_frames_share_batches(embedder, engine, frame):
    boxes = [np.float32([[0, 0, 20, 40], [30, 5, 60, 60]]), np.zeros((0, 4), np.float32), np.float32([[9, 9, 30, 30]])]
    other = Frame(np.ascontiguousarray(frame.image[::-1]))
    frames = [frame, frame, other]
    engine.shapes.clear()
    found = embedder.embed_frames(frames, boxes)
    assert [shape[0] for shape in engine.shapes] == [3]
    assert [len(rows) for rows in found] == [2, 0, 1]
    for rows, own, at in zip(found, boxes, frames, strict=True):
        np.testing.assert_allclose(rows, embedder.embed(at, own), atol=1e-5)
    assert embedder.embed_frames([], []) == []


def test_no_boxes_run_nothing(embedder, engine, frame):
    assert embedder.embed(frame, np.zeros((0, 4), np.float32)).shape == (0, DIM)
    assert embedder.embed_crops([]).shape == (0, DIM)
    assert engine.shapes == []


@pytest.mark.parametrize(
    "box",
    [
        (50, 50, 50, 50),
        (50, 10, 50, 90),
        (50.2, 50.2, 50.3, 50.3),
        (0, 0, 0, 0),
        (200, 120, 200, 120),
        (-40, -30, -10, -5),
        (300, 200, 400, 260),
        (-1e30, -1e30, 1e30, 1e30),
    ],
)
def test_degenerate_boxes_give_unit_vectors(embedder, frame, box):
    embeddings = embedder.embed(frame, np.float32([box]))
    assert np.isfinite(embeddings).all()
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_box_partly_outside_shows_its_inside(embedder, frame):
    reaching, inside = np.float32([[-30, -20, 60, 70]]), np.float32([[0, 0, 60, 70]])
    np.testing.assert_array_equal(embedder.embed(frame, reaching), embedder.embed(frame, inside))


def test_boxes_and_crops_agree(embedder, frame):
    np.testing.assert_array_equal(embedder.embed(frame, BOXES[:1]), embedder.embed_crops([frame.image[10:90, 10:50]]))


def test_boxes_must_be_finite(embedder, frame):
    with pytest.raises(InvalidInputError, match="finite"):
        embedder.embed(frame, np.float32([[0, 0, np.nan, 5]]))


def test_part_pixels_are_taken_whole():
    assert crop_slices(np.float32([[1.2, 2.8, 3.1, 4.0]]), (10, 10)) == [(slice(2, 4), slice(1, 4))]


@pytest.mark.parametrize("crop", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_crops_of_a_wrong_kind_are_refused(embedder, crop):
    with pytest.raises(InvalidInputError, match="index 1"):
        embedder.embed_crops([np.zeros((4, 4, 3), np.uint8), crop])


def test_a_closed_embedder_refuses_work(embedder, frame):
    embedder.close()
    embedder.close()
    with pytest.raises(StateError):
        embedder.embed(frame, BOXES)


def test_max_batch_must_be_positive(engine):
    with pytest.raises(ConfigError, match="max_batch"):
        Embedder(engine, dim=DIM, normalization=TENSORFLOW_NORMALIZATION, max_batch=0)


@pytest.fixture
def card(tmp_path, engine):
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in engine.network.state_dict().items()
    }
    return make_card(tmp_path, weights)


def make_card(folder, weights, **changes):
    save_file(weights, folder / "weights.safetensors")
    fields = {
        "name": "tiny",
        "kind": "embedder",
        "summary": "",
        "folder": folder,
        "architecture": {"backbone": "tf_efficientnet_lite0", "stride": 16, "dim": DIM},
        "preprocess": {"size_hw": list(SIZE_HW), "mean": [127, 127, 127], "std": [128, 128, 128]},
        "sha256": file_sha256(folder / "weights.safetensors"),
        "licence": "Apache-2.0",
    }
    return ModelCard(**fields | changes)


def test_loaded_embedder_equals_the_one_that_was_saved(card, embedder, frame):
    loaded = load_embedder(card, RuntimeConfig(device="cpu", engine="torch"), max_batch=2)
    assert (loaded.dim, loaded.size_hw, loaded.max_batch) == (DIM, SIZE_HW, 2)
    # Half precision in the file: cosine similarity rather than equality.
    assert (loaded.embed(frame, BOXES) * embedder.embed(frame, BOXES)).sum(axis=1).min() > 0.999


def test_weights_of_another_shape_show_both_sides(card):
    other = make_card(card.folder, load_weights(card), architecture={**card.architecture, "dim": 8})
    with pytest.raises(WeightsError, match=r"expected neck.bias \(8,\).* found neck.bias \(16,\)"):
        load_embedder(other)


def test_missing_and_unknown_weights_are_named(card):
    weights = load_weights(card)
    weights["neck.scale"] = weights.pop("neck.weight")
    with pytest.raises(WeightsError, match=r"expected neck.weight, found neck.scale \(1 missing, 1 unknown"):
        load_embedder(make_card(card.folder, weights))


@pytest.mark.data
def test_shipped_model_finds_held_out_people(data_dir):
    shipped = load_embedder(find_model("reid-lite", kind="embedder"), RuntimeConfig(device="cpu", threads=1))
    metrics = evaluate_reid(shipped, data_dir / "market1501")
    assert metrics["rank1"] >= 0.85
    assert metrics["mAP"] >= 0.7


def test_cards_that_do_not_describe_an_embedder_are_refused(card):
    with pytest.raises(ModelError, match="card says detector"):
        load_embedder(replace(card, kind="detector"))
    with pytest.raises(ModelError, match=r"architecture\.stride"):
        load_embedder(replace(card, architecture={"backbone": "tf_efficientnet_lite0"}))
