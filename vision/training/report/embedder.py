"""The report of an embedder: the rank curve, distances of pairs, and the people that are confused most surely."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision.card import ModelCard
from vision.evaluation.reid import distance_limit, evaluate_embeddings, pair_distances, rank_curve
from vision.evaluation.reid_plots import confusion_sheet, distance_figure, rank_figure
from vision.report.content import Content, photo, plot, share
from vision.training.report.answers import EmbedderAnswers, load_embeddings

# All pairs are formed for the histogram: their number grows with the square.
MOST_CROPS = 3000


def embedder_content(out: Path, card: ModelCard) -> Content:
    """Return what the report of an embedder's run shows."""
    answers = load_embeddings(out)
    if answers is None:
        note = "The run folder has no embeddings of the held-out crops; stride32 report RUN --data CROPS makes them."
        return Content(notes=[note])
    known = answers.embeddings, answers.person_ids, answers.camera_ids
    metrics = evaluate_embeddings(*known)
    curve = rank_curve(*known)
    same, different = pair_distances(*_some(answers))
    limit = distance_limit(*_some(answers))
    content = Content(
        tiles=[
            ("rank-1", share(metrics["rank1"])),
            ("rank-5", share(metrics["rank5"])),
            ("mAP", share(metrics["mAP"])),
            ("queries", f"{metrics['queries']:.0f}"),
        ],
        plots=[
            plot(
                "rank-curve",
                "Rank curve",
                "Share of queries with the right person among the first crops of other cameras.",
                lambda theme: rank_figure(curve, theme),
            ),
            plot(
                "distances",
                "Distances of pairs",
                "The less the two overlap, the better appearance alone tells people apart. The limit is a start for "
                "tracking.max_cosine_distance.",
                lambda theme: distance_figure(same, different, limit, theme),
            ),
        ],
    )
    sheet = confusion_sheet(*known, answers.paths)
    if sheet is not None:
        caption = "In threes: the query, the other person found first with the distance, the right one with its rank."
        content.photos.append(photo("confusions", "Surest confusions", caption, sheet))
    return content


def _some(answers: EmbedderAnswers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays of at most MOST_CROPS crops, evenly taken so that people keep their share."""
    count = len(answers.person_ids)
    rows = np.unique(np.linspace(0, count - 1, min(count, MOST_CROPS)).round().astype(np.int64))
    return answers.embeddings[rows], answers.person_ids[rows], answers.camera_ids[rows]
