from __future__ import annotations

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.tracking.cost import appearance_cost, labels_agree, paired_iou
from vision.tracking.gallery import Gallery, unit_rows


def filled(rng: np.random.Generator, counts: list[int], size: int, width: int = 8) -> tuple[Gallery, list[np.ndarray]]:
    gallery = Gallery(size, width, len(counts))
    kept = []
    for row, count in enumerate(counts):
        history = unit_rows(rng.standard_normal((count, width)).astype(np.float32)) if count else np.zeros((0, width))
        for embedding in history:
            gallery.add(np.array([row]), embedding[None])
        kept.append(history[-size:])
    return gallery, kept


@pytest.mark.parametrize("counts", [[3, 5, 5, 9], [5, 5, 5, 5], [0, 1, 2, 12]])
def test_distance_is_the_minimum_over_the_last_b_embeddings(counts: list[int]) -> None:
    rng = np.random.default_rng(1)
    gallery, kept = filled(rng, counts, size=5)
    embeddings = unit_rows(rng.standard_normal((11, 8)).astype(np.float32))
    for rows in ([0, 1, 2, 3], [0, 0, 0, 0, 0, 0, 2], [1], [0, 3, 3], []):
        rows_array = np.array(rows, np.intp)
        columns = rng.integers(0, len(embeddings), len(rows))
        found = gallery.cosine_distance(rows_array, embeddings[columns])
        expected = [
            min((1 - kept[r] @ embeddings[c]).tolist(), default=np.inf) for r, c in zip(rows, columns, strict=True)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_reserve_move_and_clear_keep_the_right_rows() -> None:
    rng = np.random.default_rng(2)
    gallery, kept = filled(rng, [2, 7, 3], size=4)
    query = unit_rows(rng.standard_normal((1, 8)).astype(np.float32))
    gallery.reserve(10)
    gallery.move(np.array([2]), np.array([0]))
    np.testing.assert_allclose(gallery.cosine_distance(np.array([0]), query), (1 - kept[2] @ query[0]).min(), atol=1e-6)
    np.testing.assert_allclose(gallery.cosine_distance(np.array([1]), query), (1 - kept[1] @ query[0]).min(), atol=1e-6)
    gallery.clear(np.array([0]))
    assert gallery.cosine_distance(np.array([0]), query)[0] == np.inf


def test_what_gone_tracks_left_is_not_saved() -> None:
    gallery, _ = filled(np.random.default_rng(0), [2, 3], size=4)
    gallery.clear(np.array([1]))
    embeddings, written = gallery.to_arrays(2)
    assert written.tolist() == [2, 0]
    assert embeddings.shape == (2, 2, 8)
    assert embeddings[0].any(axis=1).all()
    assert not embeddings[1].any()


def test_zero_embedding_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="row 1"):
        unit_rows(np.array([[1, 0], [0, 0]], np.float32))


def test_unit_rows_survive_extreme_lengths() -> None:
    rows = unit_rows(np.array([[3e-30, 4e-30], [3e30, 4e30]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8]] * 2, rtol=1e-6)


def test_appearance_shortcut_never_crosses_the_limit() -> None:
    """For pairs without a rival only the side of the limit counts; contested pairs are exact."""
    rng = np.random.default_rng(3)
    gallery, kept = filled(rng, [4, 4, 4, 0], size=4, width=3)
    embeddings = unit_rows(rng.standard_normal((4, 3)).astype(np.float32))
    for limit in (0.05, 0.3, 1.0):
        rows, columns = np.array([0, 1, 1, 2, 3]), np.array([0, 1, 2, 2, 3])
        costs = appearance_cost(gallery, rows, columns, embeddings, limit)
        exact = np.array(
            [min((1 - kept[r] @ embeddings[c]).tolist(), default=np.inf) for r, c in zip(rows, columns, strict=True)]
        )
        np.testing.assert_array_equal(costs <= limit, exact <= limit)
        np.testing.assert_allclose(costs[1:], exact[1:], atol=1e-6)


def test_paired_iou_and_labels() -> None:
    boxes = np.array([[0.0, 0, 2, 2], [0, 0, 0, 2], [0, 0, 1, 1]])
    np.testing.assert_allclose(paired_iou(boxes, np.array([[0.0, 0, 2, 2], [0, 0, 0, 2], [1, 1, 2, 2]])), [1, 0, 0])
    assert labels_agree(np.array([1, 1]), np.array([1])) is None
    np.testing.assert_array_equal(labels_agree(np.array([1, 2]), np.array([2])), [[False], [True]])
