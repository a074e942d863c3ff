"""The configuration of a whole pipeline, and TOML files and ``--set`` texts turned into the dataclasses of each stage.

Every stage keeps its own frozen dataclass beside it (``vision/detection/config.py`` and so on); ``PipelineConfig`` only
nests them. The reading is generic: training and batch configurations are loaded by the same functions. Loads no torch.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from vision.classification.config import ClassifierConfig
from vision.coercion import coerce_value
from vision.detection.config import DetectorConfig
from vision.errors import ConfigError, closest_hint
from vision.reid.config import EmbedderConfig
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.toml_text import format_toml
from vision.tracking.config import TrackerConfig
from vision.tracking.offline_config import OfflineConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ConfigT = TypeVar("ConfigT", bound=DataclassInstance)
else:
    ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """The settings of each stage on the path of a frame; a TOML file has one table for each field.

    Attributes:
        detection: the detector and how its output is filtered.
        embedding: the appearance network, or model "none".
        tracking: the tracker.
        offline: what is done to the tracks when the sequence is over, where that is asked for.
        classification: the classifier of whole frames.
        segmentation: the segmenter.
        runtime: device, engine and precision of the networks.
    """

    detection: DetectorConfig = field(default_factory=DetectorConfig)
    embedding: EmbedderConfig = field(default_factory=EmbedderConfig)
    tracking: TrackerConfig = field(default_factory=TrackerConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    classification: ClassifierConfig = field(default_factory=ClassifierConfig)
    segmentation: SegmenterConfig = field(default_factory=SegmenterConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def load_config(path: Path | None, cls: type[ConfigT], overrides: Sequence[str] = ()) -> ConfigT:
    """Read the TOML file ``path`` as the configuration dataclass ``cls``; fields that are left out keep their defaults.

    Args:
        path: the file, or None to start from the defaults alone.
        cls: a dataclass, nested or flat; a field without a default must be in the file or in ``overrides``.
        overrides: texts as for ``apply_overrides``, which win over the file.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown (with a suggestion), a required field
            is left out, or a value has the wrong type or range. The message starts with the file's name.
    """
    table = {} if path is None else _read_toml(path)
    for text in overrides:
        _merge(table, _override_table(text))
    try:
        return from_dict(cls, table)
    except ConfigError as exc:
        if path is None:
            raise
        place = f"{path} with --set" if overrides else f"{path}"
        raise ConfigError(f"{place}: {exc}", expected=exc.expected, actual=exc.actual, path=path) from exc


def from_dict(cls: type[ConfigT], table: Mapping[str, Any]) -> ConfigT:
    """Build the dataclass ``cls`` from plain data, as ``tomllib`` or ``to_dict`` give it; raises ConfigError."""
    return _build(cls, table, None, "")


def apply_overrides(config: ConfigT, overrides: Sequence[str]) -> ConfigT:
    """Return ``config`` with texts like ``"tracking.max_age=40"`` applied in order (the CLI's ``--set``).

    The value is read as TOML; anything else is a bare string, so ``detection.model=my-model`` needs no quotes.
    A comma-separated string fills a list: ``detection.classes=person,car``.
    """
    for text in overrides:
        config = _build(type(config), _override_table(text), config, "")
    return config


def parse_value(raw: str) -> Any:
    """Return ``raw`` read as one TOML value, or the text itself when it is none.

    >>> parse_value("0.5"), parse_value("[1, 2]"), parse_value("true"), parse_value("cuda:0")
    (0.5, [1, 2], True, 'cuda:0')
    """
    try:
        table = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    return table["value"] if table.keys() == {"value"} else raw


def to_dict(config: DataclassInstance) -> dict[str, Any]:
    """Return the configuration as plain JSON data (dictionaries, lists, strings for paths); ``from_dict`` undoes it."""
    return {item.name: _plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def to_toml(config: DataclassInstance) -> str:
    """Return the configuration as TOML text that ``load_config`` reads back to an equal value.

    TOML has no null, so None is written as "none", which every optional field reads as None.
    """
    return format_toml(_named_none(to_dict(config)))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(
            f"{path}: expected a readable TOML file, got: {exc.strerror or exc}; check the path", path=path
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: expected TOML, got: {exc}; correct that place", path=path) from exc


def _override_table(text: str) -> dict[str, Any]:
    """Return ``"a.b=1"`` as ``{"a": {"b": 1}}``."""
    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            f"--set expects KEY=VALUE such as tracking.max_age=40, got {text!r}; write key and value",
            expected="KEY=VALUE",
            actual=text,
        )
    table: Any = parse_value(raw.strip())
    for part in reversed(key.strip().split(".")):
        table = {part: table}
    made: dict[str, Any] = table
    return made


def _merge(table: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Write ``other`` into ``table``, table by table."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _merge(table[key], value)
        else:
            table[key] = value


def _build(cls: type[ConfigT], table: Mapping[str, Any], base: ConfigT | None, where: str) -> ConfigT:
    """Return ``cls`` made of ``table``; ``base``, when given, supplies the fields that the table leaves out."""
    hints = _field_types(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        place = f"{where}{key}"
        if key not in hints:
            raise ConfigError(
                f"unknown key {place!r}{closest_hint(key, hints)}; known here: {', '.join(hints)}",
                expected=f"one of {', '.join(hints)}",
                actual=key,
            )
        hint = hints[key]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(
                    f"{place} must be a table of {', '.join(_field_types(hint))}, got {value!r}; set one of them"
                )
            values[key] = _build(hint, value, None if base is None else getattr(base, key), f"{place}.")
        else:
            values[key] = coerce_value(value, hint, place)
    if base is not None:
        return dataclasses.replace(base, **values)
    _require_fields(cls, values, where)
    return cls(**values)


def _require_fields(cls: type[DataclassInstance], values: Mapping[str, Any], where: str) -> None:
    missing = [
        f"{where}{item.name}"
        for item in dataclasses.fields(cls)
        if item.init
        and item.name not in values
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(
            f"required keys are missing: {', '.join(missing)}; give each a value", expected=", ".join(missing)
        )


@cache
def _field_types(cls: type[DataclassInstance]) -> dict[str, Any]:
    """Return field name -> resolved annotation, in the order of definition."""
    hints = get_type_hints(cls)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls) if item.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _named_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _named_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named_none(item) for item in value]
    return "none" if value is None else value
