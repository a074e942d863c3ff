"""Streams: a `Pipeline` for each tracking session or video job, with a tracker of its own and the models of all."""

from __future__ import annotations

from dataclasses import replace

from service.clients import SharedDetector, SharedEmbedder, SharedSegmenter
from service.model_entry import ModelEntry
from service.registry import ModelRegistry
from service.settings import Settings
from service.stream_options import StreamOptions
from service.work import Priority
from vision.build import build_camera_motion, build_tracker, resolve_config
from vision.config import PipelineConfig
from vision.errors import ConfigError
from vision.pipeline import Pipeline
from vision.reid.appearance import AppearanceEmbedder
from vision.tracking.tracker import Tracker


class StreamBuilder:
    """Makes pipelines of streams from their options."""

    def __init__(self, settings: Settings, registry: ModelRegistry) -> None:
        self._settings = settings
        self._registry = registry

    def check(self, options: StreamOptions) -> PipelineConfig:
        """Return the effective settings of a stream, with the thresholds that its detector and tracker decide.

        Raises:
            ConfigError: a setting that does not exist or is out of range.
            NotFoundError: a model that is not here, or is for another task.
            UnavailableError: a model that is not loaded.
        """
        registry = self._registry
        base = PipelineConfig(runtime=registry.runtime)
        config = options.to_config(base)
        detector = registry.resolve("detect", options.model)
        config = resolve_config(replace(config, detection=replace(config.detection, model=detector.name)))
        with detector.lease() as loaded:
            # Thresholds that this detector cannot keep, and classes that it does not know, are told now.
            config = replace(config, detection=loaded.served.resolve(config.detection))  # type: ignore[attr-defined]
        embedder = self._embedder(config)
        if embedder is None:
            config = replace(
                config,
                tracking=replace(config.tracking, appearance=False),
                embedding=replace(config.embedding, model="none"),
            )
        else:
            config = replace(config, embedding=replace(config.embedding, model=embedder.name))
        segmenter = options.segmenter or registry.defaults.get("segment", "")
        if options.segment:
            if not segmenter:
                raise ConfigError("segment needs a segmenter, this server has no default; name one as segmenter")
            with registry.resolve("segment", segmenter).lease():
                config = replace(config, segmentation=replace(config.segmentation, model=segmenter))
        return config

    def open(
        self, options: StreamOptions, *, priority: Priority = Priority.INTERACTIVE, tracker: Tracker | None = None
    ) -> Pipeline:
        """Return the pipeline of a new stream, or of one that goes on with a ``tracker``; raises as ``check``.

        Its ``process`` waits for the shared models: call it in a thread, one frame at a time.
        """
        config = self.check(options)
        common = {"priority": priority, "timeout_s": self._settings.request_timeout_s}
        registry = self._registry
        embedder = self._embedder(config)
        appearance: AppearanceEmbedder | None = None
        if embedder is not None:
            appearance = SharedEmbedder(embedder, priority=priority, timeout_s=self._settings.request_timeout_s)
        return Pipeline(
            detector=SharedDetector(registry.find(config.detection.model), config.detection, **common),  # type: ignore[arg-type]
            embedder=appearance,
            camera=build_camera_motion(config.tracking),
            tracker=tracker or build_tracker(config.tracking),
            segmenter=(
                SharedSegmenter(registry.find(config.segmentation.model), config.segmentation, **common)  # type: ignore[arg-type]
                if options.segment
                else None
            ),
        )

    def _embedder(self, config: PipelineConfig) -> ModelEntry | None:
        """Return the embedder of a stream that compares looks, or None; raises UnavailableError if it is not loaded."""
        if not config.tracking.appearance or "embed" not in self._registry.defaults:
            return None
        entry = self._registry.resolve("embed")
        with entry.lease():
            return entry
