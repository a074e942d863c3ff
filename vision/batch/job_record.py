"""``job.json``: what a job was begun with, and how that differs from what somebody wants to go on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

import orjson

from vision import __version__
from vision.batch.config import BatchConfig, Task
from vision.batch.output import Output
from vision.batch.schema import SCHEMA_VERSION
from vision.errors import InvalidInputError

JOB_FILE = "job.json"
_VERSION = 1
_ABSENT = object()
_DIGEST_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What a job was begun with.

    Attributes:
        task: of the job.
        identity: ``BatchConfig.identity()``.
        models: for each stage the name of its model and the sha256 of its weights.
        source: SOURCE as the user gave it.
        items, shards: how many there are.
        digest: of all items.
        schema_version: of the rows. version: of Stride32.
    """

    task: Task
    identity: Mapping[str, Any]
    models: Mapping[str, Mapping[str, str]]
    source: str
    items: int
    shards: int
    digest: str
    schema_version: int = SCHEMA_VERSION
    version: str = __version__

    @classmethod
    def of(cls, config: BatchConfig, models: Mapping[str, Mapping[str, str]], manifest: Any, source: str) -> Self:
        """Return what a job with these inputs would be begun with now."""
        return cls(
            task=config.task,
            # As it comes back from a file, so that both compare equal.
            identity=orjson.loads(orjson.dumps(config.identity())),
            models={stage: dict(model) for stage, model in models.items()},
            source=source,
            items=manifest.n_items,
            shards=manifest.n_shards,
            digest=manifest.digest,
        )

    def to_json(self) -> bytes:
        """Return the text of ``job.json``."""
        content = {
            "version": _VERSION,
            "kind": "stride32 batch job",
            "task": self.task,
            "source": self.source,
            "inputs": {
                "items": self.items,
                "digest": self.digest,
                "shards": self.shards,
                "shard_size": self.identity.get("shard_size"),
            },
            "models": self.models,
            "identity": self.identity,
            "schema_version": self.schema_version,
            "stride32": self.version,
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def differences(self, now: JobRecord) -> list[str]:
        """Return a line for each setting, model and version that is another one now; inputs are not among them."""
        lines = _value_differences(
            {"schema version": self.schema_version, "stride32": self.version},
            {"schema version": now.schema_version, "stride32": now.version},
        )
        lines += _value_differences(_flat(self.identity), _flat(now.identity))
        for stage in sorted({*self.models, *now.models}):
            lines += _model_differences(stage, self.models.get(stage), now.models.get(stage))
        return lines


def read_record(output: Output) -> JobRecord:
    """Return what the job was begun with.

    Raises:
        InvalidInputError: there is no job, or ``job.json`` is damaged or of a newer version.
    """
    if not output.exists(JOB_FILE):
        raise InvalidInputError(
            f"{output.address} must hold a batch job, found no {JOB_FILE}; give the folder that --out named"
        )
    try:
        content = orjson.loads(output.read(JOB_FILE))
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, this Stride32 reads version {_VERSION}")
        if content["task"] not in get_args(Task):
            raise ValueError(f"the task {content['task']!r}")
        return _from_content(content)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InvalidInputError(
            f"{output.locate(JOB_FILE)} must be what stride32 batch writes, found {exc!r}; restore it, or give another "
            "--out"
        ) from exc


def _from_content(content: Mapping[str, Any]) -> JobRecord:
    inputs = content["inputs"]
    return JobRecord(
        task=content["task"],
        identity=dict(content["identity"]),
        models={stage: dict(model) for stage, model in content["models"].items()},
        source=str(content["source"]),
        items=int(inputs["items"]),
        shards=int(inputs["shards"]),
        digest=str(inputs["digest"]),
        schema_version=int(content["schema_version"]),
        version=str(content["stride32"]),
    )


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _value_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {_words(then.get(key, _ABSENT))} in the job, {_words(now.get(key, _ABSENT))} now"
        for key in dict.fromkeys([*then, *now])
        if then.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def _model_differences(stage: str, then: Mapping[str, str] | None, now: Mapping[str, str] | None) -> list[str]:
    if then == now:
        return []
    if then is None or now is None or then.get("name") != now.get("name"):
        return [f"model {stage}: {_model_words(then)} in the job, {_model_words(now)} now"]
    digests = [f"{model.get('sha256', '')[:_DIGEST_SHOWN]}…" for model in (then, now)]
    return [f"model {stage} {now.get('name')}: sha256 {digests[0]} in the job, {digests[1]} now"]


def _model_words(model: Mapping[str, str] | None) -> str:
    return "none" if model is None else f"{model.get('name')} ({model.get('sha256', '')[:_DIGEST_SHOWN]}…)"


def _words(value: object) -> str:
    if value is _ABSENT:
        return "not there"
    return value if isinstance(value, str) and value else orjson.dumps(value).decode()
