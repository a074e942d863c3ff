"""The model card (``card.toml``): what a loader, a reader and a lawyer need to know about one set of weights."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision.coercion import coerce_value
from vision.errors import ConfigError, ModelError, closest_hint
from vision.toml_text import format_toml

CARD_FILE = "card.toml"
WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One model of the store.

    Attributes:
        name: how it is called on the command line; the folder's name in a store.
        kind: the task: "detector", "embedder", "classifier" or "segmenter".
        summary: one line on what it does.
        folder: where the card was read from; not written into it.
        architecture: what the network is built from (backbone name, channels, anchors...).
        preprocess: how a picture becomes the input tensor (long_side or size_hw, mean, std, multiple).
        labels: class names in the order of the outputs; empty for embedders.
        weights_file: name of the weights inside the folder.
        sha256: digest of the weights file, 64 hexadecimal digits.
        licence: SPDX name of the weights' licence.
        data: one table a data set the weights were made from: name, terms.
        training: what repeats the training: command, seed and so on.
        metrics: one table a measurement: name, value, dataset, command.
        latency: one table a measured time, with the machine: what ``stride32 models bench --write-cards`` stores.
    """

    name: str
    kind: str
    summary: str
    folder: Path
    architecture: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    sha256: str
    licence: str
    labels: tuple[str, ...] = ()
    weights_file: str = WEIGHTS_FILE
    data: tuple[Mapping[str, Any], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    latency: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "data", tuple(self.data))
        object.__setattr__(self, "metrics", tuple(self.metrics))
        object.__setattr__(self, "latency", tuple(self.latency))
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ModelError(
                f"{self.name}: weights.sha256 must be 64 lower-case hexadecimal digits, got {self.sha256!r}; "
                "write what sha256sum prints"
            )
        if Path(self.weights_file).name != self.weights_file:
            raise ModelError(
                f"{self.name}: weights.file must be a file name inside the model's folder, got {self.weights_file!r}; "
                "move the file there"
            )

    @property
    def weights_path(self) -> Path:
        """The weights file."""
        return self.folder / self.weights_file

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain data in the order of ``card.toml``; the folder is left out."""
        return {
            "name": self.name,
            "kind": self.kind,
            "summary": self.summary,
            "licence": self.licence,
            "labels": list(self.labels),
            "weights": {"file": self.weights_file, "sha256": self.sha256},
            "architecture": dict(self.architecture),
            "preprocess": dict(self.preprocess),
            "training": dict(self.training),
            "data": [dict(item) for item in self.data],
            "metrics": [dict(item) for item in self.metrics],
            **({"latency": [dict(item) for item in self.latency]} if self.latency else {}),
        }


def read_card(folder: Path) -> ModelCard:
    """Return the card in ``folder``; raises ModelError naming the file and the key that is wrong."""
    path = folder / CARD_FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ModelError(
            f"{path}: expected a model card, got {exc.strerror or exc}; give a model folder", path=path
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ModelError(f"{path}: expected TOML, got: {exc}; correct that place", path=path) from exc
    try:
        return ModelCard(folder=folder, **_card_fields(table))
    except (ConfigError, ModelError) as exc:
        raise ModelError(f"{path}: {exc}", expected=exc.expected, actual=exc.actual, path=path) from exc


def write_card(folder: Path, card: ModelCard) -> Path:
    """Write ``card`` as ``folder/card.toml``, replacing an older one at once; returns the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CARD_FILE
    part = path.with_name(f"{CARD_FILE}.part")
    part.write_text(format_toml(card.to_dict()), encoding="utf-8")
    return part.replace(path)


_KEYS: dict[str, Any] = {
    "name": str,
    "kind": str,
    "summary": str,
    "licence": str,
    "labels": tuple[str, ...],
    "architecture": dict[str, Any],
    "preprocess": dict[str, Any],
    "training": dict[str, Any],
    "data": list[dict[str, Any]],
    "metrics": list[dict[str, Any]],
    "latency": list[dict[str, Any]],
}
_WEIGHTS_KEYS: dict[str, Any] = {"file": str, "sha256": str}


def _card_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return constructor arguments from the card's table, whose ``[weights]`` holds two of them."""
    weights = table.get("weights")
    if not isinstance(weights, Mapping):
        raise ConfigError(f"weights must be a table with file and sha256, got {weights!r}; add [weights]")
    fields = _checked({key: value for key, value in table.items() if key != "weights"}, _KEYS, "")
    checked = _checked(weights, _WEIGHTS_KEYS, "weights.")
    if "file" in checked:
        fields["weights_file"] = checked["file"]
    if "sha256" in checked:
        fields["sha256"] = checked["sha256"]
    _require(fields)
    return fields


def _require(fields: Mapping[str, Any]) -> None:
    required = {
        item.name
        for item in dataclasses.fields(ModelCard)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    missing = [("weights.sha256" if key == "sha256" else key) for key in sorted(required - {"folder"} - fields.keys())]
    if missing:
        raise ConfigError(
            f"required keys are missing: {', '.join(missing)}; add them to the card", expected=", ".join(missing)
        )


def _checked(table: Mapping[str, Any], types: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown: Sequence[str] = [key for key in table if key not in types]
    if unknown:
        key = unknown[0]
        raise ConfigError(f"unknown key {where + key!r}{closest_hint(key, types)}; known here: {', '.join(types)}")
    return {key: coerce_value(value, types[key], where + key) for key, value in table.items()}
