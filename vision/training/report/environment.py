"""Where and with what a run was trained: environment.json in the run folder, one entry for each start of the run."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision import __version__
from vision.runtime.cpus import available_cpus

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger(__name__)

ENVIRONMENT_FILE = "environment.json"
# What changes numbers: the rest of an environment follows from these or does not matter.
PACKAGES = (
    "torch", "torchvision", "timm", "lightning", "numpy", "scipy", "opencv-python-headless", "onnxruntime",
    "safetensors", "faster-coco-eval", "torchmetrics",
)  # fmt: skip
GIT_TIMEOUT_S = 5


def record_start(out: Path, config: DataclassInstance) -> None:
    """Add an entry to the run's environment.json: time, changed settings, revision, versions and machine.

    The entry holds no host name, no user name and no absolute path.
    """
    entry = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "changed": changed_settings(config),
        **describe_environment(),
    }
    path = out / ENVIRONMENT_FILE
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({"starts": [*read_starts(out), entry]}, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def read_starts(out: Path) -> list[dict[str, Any]]:
    """Return the entries of environment.json, the first start first; empty without a readable file."""
    try:
        content = json.loads((out / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        return [entry for entry in content["starts"] if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def changed_settings(config: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a configuration that differ from their defaults, tuples as lists.

    Of paths only the last two parts are kept: the report is made to be passed on, and config.toml has the whole.
    """
    changed: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value != item.default:
            changed[item.name] = _plain(value)
    return changed


def _plain(value: object) -> Any:
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        return "/".join(part for part in Path(value).parts[-2:] if part != "/")
    return list(value) if isinstance(value, tuple) else value


def describe_environment() -> dict[str, Any]:
    """Return the versions of Stride32 and of what computes, the git revision of a checkout, and the machine."""
    return {
        "stride32": __version__,
        "git": git_revision(Path(__file__).parents[3]),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": _machine(),
    }


def git_revision(root: Path) -> dict[str, Any] | None:
    """Return {"revision", "dirty"} of the checkout at ``root``, or None: no checkout, or no git.

    ``dirty`` tells that tracked files differ from the revision, so it alone does not repeat the run.
    """
    if not (root / ".git").exists():
        return None
    revision = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    if revision is None or changes is None:
        return None
    return {"revision": revision.strip(), "dirty": bool(changes.strip())}


def _git(root: Path, *words: str) -> str | None:
    # Without optional locks the question never stands in the way of another git in the same checkout.
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": available_cpus(),
        "gpus": gpus,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
