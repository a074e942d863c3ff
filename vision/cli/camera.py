"""What a run says about camera motion: where there are no pictures to see it in, and at its end where it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.tracking.camera_motion import CameraMotion


def warn_without_pictures(settings: PipelineConfig) -> None:
    """Say that the settings want camera motion where there are only boxes; the tracker goes without."""
    if settings.tracking.camera_motion != "none":
        typer.echo(
            f"warning: tracking.camera_motion={settings.tracking.camera_motion} needs pictures, --detections holds "
            "none; the camera is taken for still. Give the SOURCE as well",
            err=True,
        )


def report_camera(camera: CameraMotion | None, name: str = "") -> None:
    """Say in how many frames the motion of the camera could not be told, and why; nothing where there were none."""
    if camera is None or not camera.failures:
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(camera.failures.items()))
    typer.echo(
        f"{name}{': ' if name else ''}camera motion: taken for still in {sum(camera.failures.values())} of "
        f"{camera.frames} frames ({reasons})",
        err=True,
    )
