"""Whether a saved session still fits: the same settings, the same networks, the same classes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import orjson

from service.sessions.errors import InvalidSnapshotError
from service.sessions.snapshot import Snapshot
from service.stream_options import StreamOptions
from vision.errors import ModelError
from vision.store import find_model

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.pipeline import Pipeline


def model_digests(options: StreamOptions, config: PipelineConfig) -> dict[str, str]:
    """Return name and digest of the weights of each network of a stream, by its role."""
    roles = {"detector": config.detection.model}
    if options.segment:
        roles["segmenter"] = config.segmentation.model
    if config.tracking.appearance:
        roles["embedder"] = config.embedding.model
    return {role: f"{name} {_digest(name)}".strip() for role, name in roles.items()}


def _digest(name: str) -> str:
    """Return the sha256 of a model's weights; models that come without a card have none."""
    try:
        return find_model(name).sha256
    except ModelError:
        return ""


def tracking_settings(config: PipelineConfig) -> dict[str, Any]:
    """Return all settings of the tracker as JSON holds them."""
    settings: dict[str, Any] = orjson.loads(orjson.dumps(dataclasses.asdict(config.tracking)))
    return settings


def check_fit(snapshot: Snapshot, options: StreamOptions, config: PipelineConfig, pipeline: Pipeline) -> None:
    """Raise InvalidSnapshotError unless this server's pipeline would go on exactly as the saved one."""
    header = snapshot.header
    settings = tracking_settings(config)
    if header.tracking != settings:
        changed = sorted(name for name in {*settings, *header.tracking} if _differ(name, settings, header.tracking))
        raise _misfit(f"tracking settings as it was saved with, here {', '.join(changed)} differ")
    digests = model_digests(options, config)
    if header.models != digests:
        roles = sorted(role for role in {*digests, *header.models} if _differ(role, digests, header.models))
        raise _misfit(f"the networks it was saved with, here another {' and '.join(roles)} is loaded")
    if header.class_names != tuple(pipeline.object_names):
        raise _misfit("the detector's class names it was saved with, here they are others")
    clock = snapshot.state.tracker.get("clock")
    # NaN before the first frame.
    if clock is not None and clock.shape == (5,) and clock[1] >= header.next_sequence:
        raise _misfit(f"a next_sequence above the tracker's last frame {clock[1]:g}, got {header.next_sequence}")
    gallery = snapshot.state.tracker.get("gallery")
    if gallery is not None:
        width = None if pipeline.embedder is None else pipeline.embedder.dim
        if gallery.ndim != 3 or gallery.shape[2] != width:
            raise _misfit(f"embeddings of the embedder's width {width}, got a gallery of shape {gallery.shape}")


def _differ(name: str, here: dict[str, Any], saved: dict[str, Any]) -> bool:
    return name not in here or name not in saved or here[name] != saved[name]


def _misfit(expected: str) -> InvalidSnapshotError:
    return InvalidSnapshotError(
        f"the snapshot needs {expected}; restore it on a server of the same version and models, or open a new session"
    )
