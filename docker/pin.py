"""Write docker/constraints.txt: the versions, here and now, of all that the images install.

    python docker/pin.py > docker/constraints.txt

Run it in an environment in which the tests have passed. It follows the requirements of the project and of the extras
that the images take, and leaves out what this environment has besides.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("service", "otel")
ROOT = Path(__file__).resolve().parents[1]


def project_requirements(pyproject: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """Return what the images ask for by name: the project's dependencies, its extras, and what builds it."""
    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = table["project"]
    lines = [*project["dependencies"], *table["build-system"]["requires"]]
    for extra in EXTRAS:
        lines += project["optional-dependencies"].get(extra, [])
    return [Requirement(line) for line in lines]


def closure(requirements: Iterable[Requirement]) -> tuple[dict[str, str], set[str]]:
    """Return version by name of all that the requirements need, and the names that are not installed here."""
    versions: dict[str, str] = {}
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, extra) for requirement in requirements for extra in ("", *requirement.extras)]
    while todo:
        requirement, extra = todo.pop()
        name = canonical(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        versions[name] = found.version
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                todo += [(needed, inner) for inner in ("", *needed.extras)]
    return versions, missing


def canonical(name: str) -> str:
    """Return a package's name as indexes write it.

    >>> canonical("Prometheus_Client")
    'prometheus-client'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Print the file; names that are not installed go to stderr and stay unpinned."""
    versions, missing = closure(project_requirements())
    lines = ["# Made by docker/pin.py; linux, x86_64. Newer ones: install, test, run it again."]
    lines += [f"{name}=={version.split('+')[0]}" for name, version in sorted(versions.items())]
    sys.stdout.write("\n".join(lines) + "\n")
    if missing:
        sys.stderr.write(f"not installed here and so not pinned: {', '.join(sorted(missing))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
