"""Rank-1 and mAP against hand-computed rankings, and the cross-camera rule."""

import cv2
import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.evaluation.reid import (
    distance_limit,
    embed_folder,
    evaluate_embeddings,
    evaluate_reid,
    pair_distances,
    rank_curve,
)

PERFECT = dict.fromkeys(("rank1", "rank5", "mAP", "rank1_single", "mAP_single"), 1.0)


def on_circle(*degrees):
    """Unit vectors at the given angles: similarity falls with the angle between two."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_perfect_embeddings_score_one():
    metrics = evaluate_embeddings(on_circle(0, 1, 90, 91), np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2]))
    assert metrics == {**PERFECT, "queries": 4.0}


def test_hand_computed_ranking():
    # Person 0 at 0 and 50 degrees, person 1 at 11 and 20; every crop by another camera. From 0 and from 50 the match
    # comes third, from 11 and from 20 it comes first.
    metrics = evaluate_embeddings(on_circle(0, 50, 11, 20), np.array([0, 0, 1, 1]), np.array([1, 2, 3, 4]))
    assert metrics["rank1"] == pytest.approx(2 / 4)
    assert metrics["rank5"] == 1.0
    assert metrics["mAP"] == pytest.approx((1 / 3 + 1 / 3 + 1 + 1) / 4)


def test_average_precision_of_several_matches():
    # Person 0 at 0, 4 and 20 degrees; person 1, seen once, at 10, asks nothing.
    metrics = evaluate_embeddings(on_circle(0, 4, 20, 10), np.array([0, 0, 0, 1]), np.array([1, 2, 3, 1]))
    # From 0: 4 match, 10 other, 20 match. From 4: 0 match, 10 other, 20 match. From 20: 10 other, 4 and 0 match.
    assert metrics["queries"] == 3.0
    assert metrics["rank1"] == pytest.approx(2 / 3)
    assert metrics["mAP"] == pytest.approx(((1 + 2 / 3) / 2 + (1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 3)


def test_same_camera_matches_are_not_counted():
    # The twin by the same camera is nearest, the match by another camera comes after a stranger.
    person_ids, camera_ids = np.array([0, 0, 0, 1]), np.array([1, 1, 2, 2])
    metrics = evaluate_embeddings(on_circle(0, 1, 60, 30), person_ids, camera_ids)
    assert metrics["queries"] == 3.0
    # Queries 0 and 1 meet the stranger at 30 first; query 2 at 60 meets the stranger (30 away) before both matches.
    assert metrics["rank1"] == 0.0
    assert metrics["mAP"] == pytest.approx((1 / 2 + 1 / 2 + (1 / 2 + 2 / 3) / 2) / 3)


def test_single_counts_each_person_and_camera_once():
    # Person 0 at 0, 1 (camera 1) and 30 degrees (camera 2), person 1 at 20 and 200: all but the crop at 1 are asked.
    metrics = evaluate_embeddings(on_circle(0, 1, 30, 20, 200), np.array([0, 0, 0, 1, 1]), np.array([1, 1, 2, 1, 2]))
    assert metrics["queries"] == 5.0
    assert metrics["rank1_single"] == 0.0
    # From 0: 20 other, 30 match. From 30: 20 other, 1 and 0 match. From 20 and from 200 three others come first.
    assert metrics["mAP_single"] == pytest.approx((1 / 2 + (1 / 2 + 2 / 3) / 2 + 1 / 4 + 1 / 4) / 4)
    assert metrics["mAP"] == pytest.approx((1 / 2 + 1 / 2 + (1 / 2 + 2 / 3) / 2 + 1 / 4 + 1 / 4) / 5)


def test_constant_embeddings_get_the_worst_order():
    metrics = evaluate_embeddings(np.ones((4, 2), np.float32), np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2]))
    assert metrics["rank1"] == 0.0


@pytest.mark.parametrize("order", [[3, 1, 0, 2], [2, 3, 1, 0]])
def test_order_of_crops_does_not_matter(order):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(4, 8)).astype(np.float32)
    person_ids, camera_ids = np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2])
    expected = evaluate_embeddings(embeddings, person_ids, camera_ids)
    assert evaluate_embeddings(embeddings[order], person_ids[order], camera_ids[order]) == pytest.approx(expected)


def test_one_camera_only_is_refused():
    with pytest.raises(InvalidInputError, match="two cameras"):
        evaluate_embeddings(on_circle(0, 1), np.array([0, 0]), np.array([1, 1]))


def test_lengths_must_agree():
    with pytest.raises(InvalidInputError, match="one entry a crop, got 2, 3 and 2"):
        evaluate_embeddings(on_circle(0, 1), np.array([0, 0, 1]), np.array([1, 2]))


class MeanColour:
    """Stands in for an embedder: the crop's mean colour as a direction."""

    def embed_crops(self, crops):
        colours = np.stack([crop.mean(axis=(0, 1)) for crop in crops]).astype(np.float32)
        return colours / np.linalg.norm(colours, axis=1, keepdims=True)


@pytest.fixture
def flat_people(tmp_path):
    """Six people, each of one colour direction, two crops by each of two cameras."""
    for person in range(6):
        folder = tmp_path / f"{person:04d}"
        folder.mkdir()
        colour = 40 + 200 * np.eye(3)[person % 3] * (1 if person < 3 else 0.4)
        for camera in (1, 2):
            for number in (0, 1):
                image = np.full((16, 8, 3), colour, np.uint8)
                cv2.imwrite(str(folder / f"{person:04d}_c{camera}s1_{number:06d}_01.png"), image)
    return tmp_path


def test_evaluate_reid_reads_the_held_out_people(flat_people):
    metrics = evaluate_reid(MeanColour(), flat_people, holdout=3)
    assert metrics.pop("distance_limit") > 0
    assert metrics == {**PERFECT, "queries": 12.0}
    assert evaluate_reid(MeanColour(), flat_people, people=["0001", "0002"])["queries"] == 8.0
    assert evaluate_reid(MeanColour(), flat_people, holdout=0)["queries"] == 24.0


def test_evaluate_reid_leaves_people_and_cameras_out(flat_people):
    _, crops = embed_folder(MeanColour(), flat_people, holdout=2, exclude=1)
    assert crops.people == ("0003", "0004")
    _, crops = embed_folder(MeanColour(), flat_people, holdout=0, exclude=4)
    assert crops.people == ("0000", "0001")
    _, crops = embed_folder(MeanColour(), flat_people, holdout=0, cameras=(2,))
    assert (len(crops), set(crops.camera_ids.tolist())) == (12, {2})
    with pytest.raises(InvalidInputError, match="nobody was seen by two cameras"):
        evaluate_reid(MeanColour(), flat_people, holdout=0, cameras=(2,))


def test_the_distance_limit_counts_different_people_of_one_camera_only() -> None:
    angles = np.radians([0, 1, 60, 90])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    people, cameras = np.array([0, 0, 1, 2]), np.array([1, 1, 1, 2])
    # Persons 0 and 1 in camera 1: 60 and 59 degrees apart, each pair counted from both sides.
    limit = distance_limit(embeddings, people, cameras, false_accepts=0.0)
    assert limit == pytest.approx(1 - np.cos(np.radians(59)), abs=1e-6)
    assert np.isnan(distance_limit(embeddings, people, np.arange(4)))


def test_the_rank_curve_rises_where_the_match_comes() -> None:
    """The example of the hand-computed ranking: two queries are answered first, two third."""
    known = on_circle(0, 50, 11, 20), np.array([0, 0, 1, 1]), np.array([1, 2, 3, 4])
    assert rank_curve(*known, depth=4).tolist() == [0.5, 0.5, 1, 1]
    nobody = on_circle(0, 50), np.array([0, 1]), np.array([1, 1])
    assert rank_curve(*nobody, depth=2).tolist() == [0, 0]


def test_pairs_to_tell_apart() -> None:
    """People 0, 0, 1 by cameras 1, 2, 1: one pair of a person in two cameras, one of two people in one."""
    same, different = pair_distances(on_circle(0, 60, 90), np.array([0, 0, 1]), np.array([1, 2, 1]))
    assert same == pytest.approx([0.5])
    assert different == pytest.approx([1.0])
