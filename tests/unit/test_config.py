from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from vision.config import PipelineConfig, apply_overrides, from_dict, load_config, to_dict, to_toml
from vision.errors import ConfigError
from vision.tracking.config import PRESETS


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    rate: float = 0.1
    mode: Literal["fast", "exact"] = "fast"
    limit: int | None = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    data: Path
    epochs: int = 3
    verbose: bool = False
    names: tuple[str, ...] = ()
    size_hw: tuple[int, int] = (4, 8)
    note: str | None = None
    extra: dict[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def test_load_config_reads_every_type(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'data = "pictures"\nepochs = 2\nverbose = true\nnames = ["a", "b"]\nsize_hw = [1, 2]\nnote = "hello"\n'
        '[extra]\nx = 1\n[inner]\nrate = 1\nmode = "exact"\nlimit = "none"\n',
    )
    assert load_config(path, Outer) == Outer(
        data=Path("pictures"),
        epochs=2,
        verbose=True,
        names=("a", "b"),
        size_hw=(1, 2),
        note="hello",
        extra={"x": 1.0},
        inner=Inner(rate=1.0, mode="exact", limit=None),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('data = "p"\nepoch = 2', ("'epoch'", "did you mean 'epochs'")),
        ('data = "p"\n[inner]\nrat = 2', ("'inner.rat'", "did you mean 'rate'")),
        ('data = "p"\nepochs = 1.5', ("epochs must be an integer", "1.5")),
        ('data = "p"\nepochs = true', ("epochs must be an integer", "True")),
        ('data = "p"\nverbose = 1', ("verbose must be true or false",)),
        ('data = "p"\nsize_hw = [1]', ("size_hw must be a list of 2", "[1]")),
        ('data = "p"\nsize_hw = [1, "x"]', ("size_hw[1] must be an integer",)),
        ('data = "p"\n[inner]\nmode = "exakt"', ("inner.mode must be one of", "did you mean 'exact'")),
        ('data = "p"\ninner = 3', ("inner must be a table of rate, mode, limit",)),
        ("epochs = 1", ("required keys are missing: data",)),
        ("data = ", ("expected TOML",)),
    ],
)
def test_load_config_names_the_file_and_the_key(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, Outer)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert caught.value.path == path
    assert "\n" not in message
    for word in words:
        assert word in message


def test_load_config_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.toml", PipelineConfig)


def test_range_errors_of_the_dataclass_name_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[detection]\nconf = 7\n")
    with pytest.raises(ConfigError, match=r"settings\.toml: .*conf must be in \[0, 1\], got 7"):
        load_config(path, PipelineConfig)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tracking.max_age=40", ("tracking", "max_age", 40)),
        ("tracking.max_iou_distance = 1", ("tracking", "max_iou_distance", 1.0)),
        ("detection.model=my-model", ("detection", "model", "my-model")),
        ('detection.model="quoted"', ("detection", "model", "quoted")),
        ("detection.model=runs/a=b", ("detection", "model", "runs/a=b")),
        ("detection.classes=person,car", ("detection", "classes", ("person", "car"))),
        ("detection.classes=person", ("detection", "classes", ("person",))),
        ("detection.classes=", ("detection", "classes", ())),
        ('detection.classes=["a, b"]', ("detection", "classes", ("a, b",))),
        ("detection.class_agnostic=true", ("detection", "class_agnostic", True)),
        ("runtime.device=cuda:1", ("runtime", "device", "cuda:1")),
    ],
)
def test_apply_overrides(override: str, expected: tuple[str, str, Any]) -> None:
    stage, name, value = expected
    changed = getattr(getattr(apply_overrides(PipelineConfig(), [override]), stage), name)
    assert changed == value
    assert type(changed) is type(value)


def test_overrides_apply_in_order_and_keep_the_rest() -> None:
    base = from_dict(PipelineConfig, {"tracking": {"n_init": 7}})
    config = apply_overrides(base, ["tracking.max_age=1", "tracking.max_age=2"])
    assert (config.tracking.max_age, config.tracking.n_init) == (2, 7)
    assert base.tracking.max_age != 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tracking.max_age", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("tracking.max_agee=3", "did you mean 'max_age'"),
        ("trackings.max_age=3", "did you mean 'tracking'"),
        ("tracking=3", "tracking must be a table"),
        ("tracking.max_age.x=3", "tracking.max_age must be an integer"),
        ("tracking.max_age=soon", "tracking.max_age must be an integer, got 'soon'"),
        ("tracking.max_age=-1", "max_age must be >= 0"),
        ("runtime.engine=onx", "did you mean 'onnx'"),
    ],
)
def test_bad_overrides(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(PipelineConfig(), [override])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        PipelineConfig(),
        *(PipelineConfig(tracking=preset) for preset in PRESETS.values()),
        Outer(
            data=Path('a "quoted"\\path'),
            names=tuple(f"class number {i}" for i in range(80)),
            note="tab\t, line\n, delete\x7f, snowman ☃",
            extra={"a key": 1e-300, "inf": float("inf")},
            inner=Inner(limit=None),
        ),
    ],
    ids=lambda config: type(config).__name__,
)
def test_to_toml_round_trip(tmp_path: Path, config: Any) -> None:
    assert load_config(written(tmp_path, to_toml(config)), type(config)) == config
    assert from_dict(type(config), to_dict(config)) == config


def test_the_configuration_loads_no_heavy_package() -> None:
    heavy = "{'torch', 'cv2', 'av', 'scipy', 'onnxruntime'}"
    code = f"import sys, vision.config; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_overrides_supply_required_fields(tmp_path: Path) -> None:
    assert load_config(None, Outer, ["data=here", "inner.rate=2"]) == Outer(data=Path("here"), inner=Inner(rate=2.0))
    path = written(tmp_path, "[inner]\nrate = 3\n")
    config = load_config(path, Outer, ["data=here", "inner.mode=exact"])
    assert config.inner == Inner(rate=3.0, mode="exact")
    with pytest.raises(ConfigError, match=r"settings\.toml with --set: epochs must be"):
        load_config(path, Outer, ["data=here", "epochs=soon"])
    with pytest.raises(ConfigError, match="required keys are missing: data"):
        load_config(None, Outer)
