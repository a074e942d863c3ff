"""Losses of segmentation on logits of any grid; pixels whose label is ``ignore`` count in none.

Legend of shape suffixes: B batch, K classes, H and W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_loss(
    logits_BKHW: Tensor,  # noqa: N803 - shape suffixes
    labels_BHW: Tensor,  # noqa: N803
    *,
    ignore: int,
    weights: Tensor | None = None,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy over the pixels, each weighed by its class; 0 if all are ignored.

    With ``focal_gamma`` each is multiplied by (1 - p)^gamma of its probability p, so that pixels that are right already
    stop counting (Lin 2017b, section 3.2).

    Args:
        logits_BKHW: float [B, K, H, W].
        labels_BHW: int64 [B, H, W], classes or ``ignore``.
        ignore: label that does not count.
        weights: [K], or None for equal ones.
    """
    each = F.cross_entropy(
        logits_BKHW, labels_BHW, weight=weights, ignore_index=ignore, reduction="none", label_smoothing=label_smoothing
    )
    known = labels_BHW != ignore
    if focal_gamma:
        with torch.no_grad():
            plain = F.cross_entropy(logits_BKHW, labels_BHW, ignore_index=ignore, reduction="none")
        each = each * (1 - torch.exp(-plain)) ** focal_gamma
    total = known.sum() if weights is None else weights[labels_BHW.clamp(max=len(weights) - 1)][known].sum()
    return each[known].sum() / total.clamp(min=1e-6)


def dice_loss(logits_BKHW: Tensor, labels_BHW: Tensor, *, ignore: int) -> Tensor:  # noqa: N803
    """Return 1 - the mean soft Dice coefficient over the classes that occur in the batch (Milletari 2016, section 3).

    Large and small classes count alike, and no frequency has to be known. 0 if all pixels are ignored.
    """
    known = labels_BHW != ignore
    classes = logits_BKHW.shape[1]
    probabilities = logits_BKHW.softmax(dim=1).permute(0, 2, 3, 1)[known]
    target = F.one_hot(labels_BHW[known], classes).to(probabilities.dtype)
    overlap, size = (probabilities * target).sum(dim=0), probabilities.sum(dim=0) + target.sum(dim=0)
    occurs = target.sum(dim=0) > 0
    if not bool(occurs.any()):
        return logits_BKHW.sum() * 0
    return 1 - (2 * overlap[occurs] / size[occurs]).mean()


def balanced_weights(counts: Tensor, *, kind: str, most: float = 10.0) -> Tensor:
    """Return the weight [K] of each class, between 1 / ``most`` and ``most``.

    Args:
        counts: pixels of each class, [K].
        kind: "balanced" is inverse to the frequency, with a mean of 1 over the pixels; "median" is the median frequency
            over the class's (Eigen 2015, section 6.3.2).
        most: bound; a class of ten pixels would make steps of its own.
    """
    share = counts.clamp(min=1) / counts.sum().clamp(min=1)
    weights = share.median() / share if kind == "median" else 1 / (len(share) * share)
    return weights.clamp(1 / most, most)
