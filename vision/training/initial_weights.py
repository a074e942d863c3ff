"""Starting training from a trained model: fine-tuning to other classes or people, or a second round on the same."""

from __future__ import annotations

import logging

from torch import nn

from vision.errors import WeightsError
from vision.store import find_model, load_weights

log = logging.getLogger(__name__)

# Layers whose shape depends on the classes, the anchor shapes or a segmenter's stride; everything else must fit.
DEPENDENT = ("class_head.predict.", "box_head.predict.", "score.", "fuse.", "enlarge.")
REMEDIES = {
    "detector": "set the same backbone, channels, head_depth and family",
    "embedder": "set the same backbone, stride, dim and stripes",
    "segmenter": "set the same backbone and width, a stride as fine or finer, and learnable if it is so there",
}


def start_from(network: nn.Module, name: str, *, kind: str = "detector") -> None:
    """Copy the weights of a model of that kind in the store (or a model folder) into ``network``.

    The last layer of a head keeps its fresh start when its shape differs: the classes are others. So do the layers of a
    segmenter that its start has not: the scores of finer maps are zero, and with them it is the network it starts from.

    Raises:
        ModelNotFoundError: no model of the kind has that name.
        WeightsError: another layer differs, so the model has another architecture.
    """
    card = find_model(name, kind)
    weights = load_weights(card)
    own = network.state_dict()
    differing = sorted(
        key
        for key in own.keys() | weights.keys()
        if key not in own or key not in weights or own[key].shape != weights[key].shape
    )
    # What the model has and this network has not would be lost without a word.
    wrong = [key for key in differing if key not in own or not key.startswith(DEPENDENT)]
    if wrong:
        raise WeightsError(
            f"init={name} must have the architecture of this run, {card.name} has {dict(card.architecture)}: "
            f"{len(wrong)} tensors differ, first {wrong[0]}; {REMEDIES[kind]}, or leave init out",
            path=card.folder,
        )
    network.load_state_dict({**own, **{key: weights[key] for key in weights if key not in differing}})
    log.info("started from %s%s", card.name, f"; new: {', '.join(differing)}" if differing else "")
