"""``stride32 embed``: one appearance vector a picture, each picture being one crop of an object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli import options
from vision.reid.config import EmbedderConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vision.cli.frames import RunSummary
    from vision.io.sources import Source
    from vision.reid.appearance import AppearanceEmbedder
    from vision.types import Frame


def embed(
    source: options.Source,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.npz", help="names [N] and embeddings [N, D].")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Embedder to use.", show_default=EmbedderConfig().model),
    ] = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    overwrite: options.Overwrite = False,
    max_frames: options.MaxFrames = None,
) -> int:
    """Embed each picture of SOURCE; names are paths below it, embeddings have unit norm."""
    from vision.config import to_toml
    from vision.errors import ConfigError

    settings = options.pipeline_config(config, overrides, device=device)
    if model is not None:
        settings = replace(settings, embedding=replace(settings.embedding, model=model))
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    from vision.cli.frames import report_run
    from vision.cli.outputs import OutputPlan
    from vision.io.sources import open_source

    OutputPlan(embeddings=out, overwrite=overwrite).refuse_existing(source)
    with open_source(source) as opened:
        from vision.build import build_embedder

        embedder = build_embedder(settings.embedding, settings.runtime)
        if embedder is None:
            raise ConfigError("embedding.model must name an embedder, got 'none'; pass --model NAME")
        with closing(embedder):
            summary, names, vectors = _embed_frames(opened, max_frames, embedder, settings.embedding.max_batch)
        _save(out, names, vectors)
        return report_run(summary, len(opened.errors))


def _embed_frames(
    source: Source, max_frames: int | None, embedder: AppearanceEmbedder, batch_size: int
) -> tuple[RunSummary, list[str], npt.NDArray[np.float32]]:
    """Return the names and embeddings of all frames, or of those so far when interrupted."""
    import numpy as np

    from vision.cli.frames import expected_frames, write_frames
    from vision.types import FrameResult

    names: list[str] = []
    rows: list[npt.NDArray[np.float32]] = [np.zeros((0, embedder.dim), np.float32)]

    def results() -> Iterator[tuple[Frame, FrameResult]]:
        stream = islice(source, max_frames)
        while batch := list(islice(stream, batch_size)):
            rows.append(embedder.embed_crops([frame.image for frame in batch]))
            names.extend(source.relative_name(frame) for frame in batch)
            for frame in batch:
                yield frame, FrameResult(frame_index=frame.index)

    summary = write_frames(results(), (), "embed", expected_frames(source, max_frames))
    return summary, names, np.concatenate(rows)


def _save(out: Path, names: list[str], vectors: npt.NDArray[np.float32]) -> None:
    """Write the arrays beside ``out`` first, so that a reader never meets half a file."""
    import numpy as np

    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    with part.open("wb") as file:
        np.savez(file, names=np.asarray(names, dtype=np.str_), embeddings=vectors)
    part.replace(out)
