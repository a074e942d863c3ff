"""How well embeddings find a person again in other cameras: rank-1, rank-5 and mAP (Zheng 2015, Market-1501)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.training.embedder_config import HOLDOUT_PEOPLE
from vision.types import FloatArray, IntArray

# Pairs of different people that may pass for one in appearance alone; the motion gate stands before it.
FALSE_ACCEPTS = 0.002

if TYPE_CHECKING:
    from vision.reid.appearance import AppearanceEmbedder
    from vision.training.datasets.crops import CropSet


def evaluate_embeddings(embeddings: FloatArray, person_ids: IntArray, camera_ids: IntArray) -> dict[str, float]:
    """Return rank1, rank5, mAP (all in [0, 1]) and the number of queries; every crop is a query once.

    ``rank1_single`` and ``mAP_single`` count one query for each person and camera alone, the first by name, which is
    how Market-1501 is published: who was seen often then counts no more than others.

    Its gallery are all crops except those of the same person by the same camera, itself among them: the next frame of
    the same walk is no proof of recognition. Queries whose person was seen by one camera only have nothing to find and
    are left out. Ties go against us, so that constant embeddings score no better than the worst order.

    Args:
        embeddings: unit-norm float [N, D].
        person_ids, camera_ids: int [N].

    Raises:
        InvalidInputError: lengths differ, or nobody was seen by two cameras.
    """
    if not len(embeddings) == len(person_ids) == len(camera_ids):
        raise InvalidInputError(
            f"embeddings, person_ids and camera_ids must have one entry a crop, got {len(embeddings)}, "
            f"{len(person_ids)} and {len(camera_ids)}; filter all three alike"
        )
    ranks, precisions, rows = [], [], []
    for row, _, hits in ranked_galleries(embeddings, person_ids, camera_ids):
        rows.append(row)
        ranks.append(hits[0])
        precisions.append(np.mean(np.arange(1, len(hits) + 1) / (hits + 1)))
    if not ranks:
        raise InvalidInputError("nobody was seen by two cameras, so there is nothing to find; evaluate more people")
    first, precision = np.asarray(ranks), np.asarray(precisions)
    _, single = np.unique(np.stack([person_ids[rows], camera_ids[rows]]), axis=1, return_index=True)
    return {
        "rank1": float(np.mean(first < 1)),
        "rank5": float(np.mean(first < 5)),
        "mAP": float(np.mean(precision)),
        "rank1_single": float(np.mean(first[single] < 1)),
        "mAP_single": float(np.mean(precision[single])),
        "queries": float(len(first)),
    }


def ranked_galleries(
    embeddings: FloatArray, person_ids: IntArray, camera_ids: IntArray
) -> Iterator[tuple[int, IntArray, IntArray]]:
    """Yield for each query with something to find its row, its gallery's rows by falling similarity, and the positions
    in that order (from 0) where its person is found; see ``evaluate_embeddings``."""
    for row, similarity in enumerate(embeddings @ embeddings.T):
        same_person = person_ids == person_ids[row]
        gallery = np.flatnonzero(~(same_person & (camera_ids == camera_ids[row])))
        matches = same_person[gallery]
        if matches.any():
            # lexsort's last key counts most: by falling similarity, wrong people first among equals.
            order = np.lexsort((matches, -similarity[gallery]))
            yield row, gallery[order], np.flatnonzero(matches[order])


def rank_curve(
    embeddings: FloatArray, person_ids: IntArray, camera_ids: IntArray, *, depth: int = 20
) -> npt.NDArray[np.float64]:
    """Return float64 [depth]: the share of queries whose person is among the first 1, 2, ... of the gallery."""
    first = np.asarray([hits[0] for _, _, hits in ranked_galleries(embeddings, person_ids, camera_ids)])
    if not len(first):
        return np.zeros(depth)
    return np.asarray([(first < rank).mean() for rank in range(1, depth + 1)], np.float64)


def pair_distances(
    embeddings: FloatArray, person_ids: IntArray, camera_ids: IntArray
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the cosine distances of all pairs of one person in two cameras, and of two people in one camera.

    These are the pairs to tell apart: the first a tracker should join, the second it may confuse.
    """
    upper = np.triu_indices(len(embeddings), 1)
    distances = (1 - embeddings @ embeddings.T)[upper].astype(np.float32)
    same_person = person_ids[upper[0]] == person_ids[upper[1]]
    same_camera = camera_ids[upper[0]] == camera_ids[upper[1]]
    return distances[same_person & ~same_camera], distances[~same_person & same_camera]


def distance_limit(
    embeddings: FloatArray, person_ids: IntArray, camera_ids: IntArray, *, false_accepts: float = FALSE_ACCEPTS
) -> float:
    """Return the cosine distance that this share of the pairs of different people in one camera stays below.

    A start for ``tracking.max_cosine_distance``, which belongs to the embedder. NaN without any such pair.

    Args:
        embeddings: unit-norm float [N, D].
        person_ids, camera_ids: int [N].
        false_accepts: share of pairs in [0, 1].
    """
    confusable = (person_ids[:, None] != person_ids) & (camera_ids[:, None] == camera_ids)
    distances = (1 - embeddings @ embeddings.T)[confusable]
    return float(np.quantile(distances, false_accepts)) if distances.size else float("nan")


def evaluate_reid(
    embedder: AppearanceEmbedder,
    folder: Path,
    people: Sequence[str] | None = None,
    *,
    holdout: int = HOLDOUT_PEOPLE,
    exclude: int = 0,
    cameras: Sequence[int] = (),
) -> dict[str, float]:
    """Return ``evaluate_embeddings`` and ``distance_limit`` of an embedder on a folder of crops, one a person.

    Args:
        embedder: what ``load_embedder`` returns.
        folder: as for training, see ``vision.training.datasets.crops``.
        people: ids to evaluate; None takes those that training on this folder holds out.
        holdout: how many those are; 0 takes everybody.
        exclude: how many of the last people by id are left out before that, as training leaves them out.
        cameras: take the crops of these alone, as queries and to find; empty takes all.
    """
    return measure_crops(*embed_folder(embedder, folder, people, holdout=holdout, exclude=exclude, cameras=cameras))


def measure_crops(embeddings: FloatArray, crops: CropSet) -> dict[str, float]:
    """Return ``evaluate_embeddings`` and ``distance_limit`` of the embeddings [N, D] of N crops."""
    known = embeddings, crops.person_ids, crops.camera_ids
    return {**evaluate_embeddings(*known), "distance_limit": distance_limit(*known)}


def embed_folder(
    embedder: AppearanceEmbedder,
    folder: Path,
    people: Sequence[str] | None = None,
    *,
    holdout: int = HOLDOUT_PEOPLE,
    exclude: int = 0,
    cameras: Sequence[int] = (),
) -> tuple[FloatArray, CropSet]:
    """Return the embeddings [N, D] and crops that ``evaluate_reid`` measures."""
    from vision.training.datasets.crops import keep_cameras, load_crops, read_crop_folder, split_people

    files = read_crop_folder(folder)
    everybody = sorted({file.person for file in files})
    if people is None:
        people = (
            split_people(everybody, holdout, exclude=exclude)[1] if holdout else everybody[: len(everybody) - exclude]
        )
    crops = load_crops(keep_cameras(files, cameras), people)
    return embedder.embed_crops(crops.images), crops
