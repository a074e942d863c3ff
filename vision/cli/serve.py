"""``stride32 serve``: the HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

from vision.cli.extras import needs_extra

Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all.", show_default="127.0.0.1")
]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.", show_default="8000"),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="auto|cpu|cuda:0", help="Where the networks run.", show_default="auto")
]


def serve(
    host: Host = None,
    port: Port = None,
    device: Device = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector", metavar="NAME", help="Default detector; none for none.", show_default="person-lite0"
        ),
    ] = None,
    segmenter: Annotated[
        str | None,
        typer.Option(
            "--segmenter", metavar="NAME", help="Default segmenter; none for none.", show_default="street-fcn8s"
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier",
            metavar="NAME",
            help="Default classifier; none for none.",
            show_default="tf_efficientnet_lite0",
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option("--embedder", metavar="NAME", help="Default embedder; none for none.", show_default="reid-lite"),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option("--max-batch", min=0, help="Most pictures in a forward pass; 0 chooses.", show_default="0"),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="json|text", help="Form of log lines.", show_default="json")
    ] = None,
) -> int:
    """Answer pictures, streams and videos over HTTP; every further setting is a STRIDE32_* variable."""
    with needs_extra("service", "stride32 serve"):
        from service.settings import load_settings

    settings = load_settings(
        host=host,
        port=port,
        device=device,
        detector=detector,
        segmenter=segmenter,
        classifier=classifier,
        embedder=embedder,
        max_batch=max_batch,
        log_format=log_format,
    )
    # After the settings: a wrong one is told before seconds of imports.
    with needs_extra("service", "stride32 serve"):
        from service.__main__ import serve as run

    return run(settings)
