"""The OpenAPI description is true: requests made from it by schemathesis get answers that it announces, and no 500."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from oip_models import PictureModel, load_with_fakes
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.models import FrameInput, ServedModel
from service.routes.answers import IMAGE_ANSWERS
from service.routes.descriptions import EXAMPLES
from service.settings import Settings
from vision.detection.config import DetectorConfig
from vision.runtime.config import RuntimeConfig
from vision.types import Detections, FloatArray


def no_server_error(context: Any, response: Any, case: schemathesis.Case) -> None:
    """Every failure is the client's, except that an answer which must come within microseconds cannot."""
    is_expected = response.status_code == 504 and "timeout_ms" in (case.query or {})
    assert response.status_code < 500 or is_expected, f"{response.status_code}: {response.text} to {case.query}"


CHECKS = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]

BOUNDED = settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


class OneBoxDetector(PictureModel):
    """Finds one box in every picture."""

    task = "detect"
    class_names = ("person",)

    def resolve(self, options: DetectorConfig | None) -> DetectorConfig:
        return DetectorConfig(conf=0.3, iou=0.5)

    def run(self, inputs: Sequence[FrameInput]) -> list[Detections]:
        return [Detections(np.array([[1, 2, 5, 7]], np.float32), np.array([0.5]), np.array([0]))] * len(inputs)


class SizeEmbedder(PictureModel):
    """Gives every box the same vector, wherever it lies."""

    task = "embed"
    dim = 3

    def run(self, inputs: Sequence[FrameInput]) -> list[FloatArray]:
        counts = [1 if item.options is None else len(item.options) for item in inputs]
        return [np.full((count, 3), 3**-0.5, np.float32) for count in counts]


def load(kind: str, name: str, runtime: RuntimeConfig) -> ServedModel:
    own = {"detector": OneBoxDetector, "embedder": SizeEmbedder}
    return own[kind]() if kind in own else load_with_fakes(kind, name, runtime)


@pytest.fixture
def api(tmp_path: Path) -> Any:
    """Return the schema of an app of its own: schemathesis ends an app's life with the test."""
    own = Settings(
        _env_file=None,
        device="cpu",
        engine="torch",
        data_dir=tmp_path,
        sessions_max=100_000,
        sessions_max_per_key=100_000,
        access_log=False,
    )
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(own, load=load, background=False))


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_answers_are_as_described(api: Any, mode: GenerationMode) -> None:
    """Ask every operation, with what fits its description and with what does not; report all that disagree."""
    wrong: list[str] = []
    asked = 0
    for found in api.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not is_negatable(operation):
            continue
        asked += 1

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            case.validate_response(case.call(timeout=20), checks=CHECKS)

        try:
            ask()
        except (Exception, BaseExceptionGroup) as exc:  # schemathesis groups its failures as BaseException
            wrong.append(f"{operation.label} {describe(exc)}")
    assert not wrong, "\n".join(wrong)
    assert asked >= (35 if mode is GenerationMode.POSITIVE else 12)


@pytest.mark.parametrize("task", IMAGE_ANSWERS)
def test_examples_of_answers_fit_their_schema(task: str) -> None:
    assert IMAGE_ANSWERS[task].model_validate(EXAMPLES[task]).model_dump(mode="json") == EXAMPLES[task]


def is_negatable(operation: Any) -> bool:
    """Say whether an operation takes anything that could be wrong: a path or a picture is any text, any bytes."""
    return bool(operation.query) or any(body.media_type == "application/json" for body in operation.body)


def describe(error: BaseException) -> str:
    """Return what disagrees, in a few lines."""
    parts = getattr(error, "exceptions", None)
    return "\n".join(describe(part) for part in parts) if parts else f"{type(error).__name__}: {error}"[:900]
