"""docker/ without Docker: what its files name exists, and fits the code and each other."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda"]
PORT = 8000


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return (INSTRUCTION, arguments) of a Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines]


def environment(dockerfile: Path) -> dict[str, str]:
    """Return what ENV sets in the last stage."""
    found: dict[str, str] = {}
    for name, arguments in instructions(dockerfile):
        if name == "FROM":
            found = {}
        elif name == "ENV":
            found |= dict(re.findall(r"(\w+)=(\S+)", arguments))
    return found


def read_yaml(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> Any:
    return read_yaml("compose.yaml")


@pytest.fixture(scope="module")
def pin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_pin", DOCKER / "pin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def metric_names() -> set[str]:
    """Every sample name that /metrics can give: those of the service, and those of the process."""
    from prometheus_client import CollectorRegistry, Histogram, ProcessCollector

    from service.metrics import METRIC_NAMES, Metrics

    names = set(METRIC_NAMES)
    for value in vars(Metrics()).values():
        if isinstance(value, Histogram):
            base = value.describe()[0].name
            names |= {base + suffix for suffix in ("_bucket", "_sum", "_count")}
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return names | {sample.name for family in registry.collect() for sample in family.samples}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
class TestDockerfile:
    def test_copied_paths_exist_and_are_not_ignored(self, dockerfile: Path) -> None:
        kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = []
        for name, arguments in instructions(dockerfile):
            if name in ("COPY", "ADD") and "--from=" not in arguments:
                copied += arguments.split()[:-1]
        assert copied
        for path in copied:
            assert (ROOT / path).exists(), path
            assert path in kept, f"{path} is left out by .dockerignore"

    def test_stages_are_named_and_based_on_a_pinned_tag(self, dockerfile: Path) -> None:
        arguments = dict(
            value.split("=", 1) for name, value in instructions(dockerfile) if name == "ARG" and "=" in value
        )
        stages, bases = set(), []
        for name, value in instructions(dockerfile):
            if name == "FROM":
                base, _, stage = value.partition(" AS ")
                bases.append(base.replace("${PYTHON}", arguments["PYTHON"]))
                stages.add(stage)
            elif "--from=" in value:
                assert re.findall(r"--from=(\w+)", value)[0] in stages
        assert len(bases) > 1, "more than one stage"
        for base in bases:
            assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", base), base
        for name, value in instructions(dockerfile):
            if name == "RUN":
                for package in re.findall(r"pip install (?!-c )(?:--\S+ )*(\S+)", value):
                    assert "==" in package, f"{package} is neither pinned nor under the constraints"

    def test_the_last_stage_runs_as_nobody_special(self, dockerfile: Path) -> None:
        last = [value for name, value in instructions(dockerfile) if name == "USER"][-1]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last), "a number, so that Kubernetes can see that it is not root"
        names = [name for name, _ in instructions(dockerfile)]
        assert names.index("USER") < names.index("ENTRYPOINT")

    def test_signal_port_and_volumes(self, dockerfile: Path) -> None:
        values = dict(instructions(dockerfile))
        assert values["STOPSIGNAL"] == "SIGTERM"
        assert values["EXPOSE"] == str(PORT)
        variables = environment(dockerfile)
        assert variables["STRIDE32_PORT"] == str(PORT)
        assert set(json.loads(values["VOLUME"])) == {variables["STRIDE32_DATA_DIR"], variables["STRIDE32_CACHE"]}

    def test_settings_are_settings(self, dockerfile: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from service.settings import load_settings

        monkeypatch.chdir(tmp_path)
        for name, value in environment(dockerfile).items():
            if name.startswith("STRIDE32_"):
                monkeypatch.setenv(name, value)
        settings = load_settings()
        assert settings.port == PORT
        assert settings.host == "0.0.0.0"

    def test_the_command_is_one_of_ours(self, dockerfile: Path) -> None:
        from typer.main import get_command

        from vision.cli.main import app

        values = dict(instructions(dockerfile))
        program, *words = json.loads(values["ENTRYPOINT"]) + json.loads(values["CMD"])
        assert program == "stride32"
        command = get_command(app)
        serve = command.commands[words[0]]  # type: ignore[attr-defined]
        flags = {flag for parameter in serve.params for flag in parameter.opts}
        assert set(words[1:]) <= flags

    def test_the_health_check_asks_a_route_that_needs_no_key(self, dockerfile: Path) -> None:
        from service.middleware import OPEN_PATHS

        check = dict(instructions(dockerfile))["HEALTHCHECK"].partition(" CMD ")[2]
        words = json.loads(check)
        assert words[:2] == ["python", "-c"]
        compile(words[2], "HEALTHCHECK", "exec")
        (path,) = re.findall(r"127\.0\.0\.1:%s(/\w+)", words[2])
        assert path in routes()
        assert path in OPEN_PATHS

    def test_another_index_of_torch_stands_beside_the_default_one(self, dockerfile: Path) -> None:
        # An index of torch alone lacks what torch needs (jinja2, sympy, ...) in the pinned versions.
        (step,) = [value for name, value in instructions(dockerfile) if name == "RUN" and "$TORCH_INDEX" in value]
        assert '${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}' in step
        assert " --index-url" not in step

    def test_extras_exist(self, dockerfile: Path, pin: ModuleType) -> None:
        (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", dockerfile.read_text())
        assert tuple(extras.split(",")) == pin.EXTRAS


def routes() -> set[str]:
    """Return the paths of the operations' routes."""
    from service.routes.ops import router

    return {route.path for route in router.routes}  # type: ignore[attr-defined]


def test_both_images_differ_only_where_they_must() -> None:
    plain, cuda = (instructions(path) for path in DOCKERFILES)
    kept = [step for step in cuda if step in plain]
    assert len(plain) - len(kept) <= 2, "ENV and HEALTHCHECK"
    assert len(cuda) - len(kept) <= 3, "and the look whether torch has CUDA"


def test_constraints_cover_the_project(pin: ModuleType) -> None:
    lines = [line for line in (DOCKER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    assert list(pinned) == sorted(pinned)
    for requirement in pin.project_requirements():
        name = pin.canonical(requirement.name)
        if name == "hatchling":
            continue  # pinned in the Dockerfile, for it does not reach the image
        assert name in pinned, f"run docker/pin.py: {name} is new"
        assert requirement.specifier.contains(Version(pinned[name])), f"run docker/pin.py: {requirement}"


def test_the_pins_fit_each_other(pin: ModuleType) -> None:
    lines = [line for line in (DOCKER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    for name, version in pinned.items():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if found.version != version:
            continue  # what this one needs is known only of the installed version
        for line in found.requires or ():
            needed = Requirement(line)
            if (needed.marker is None or needed.marker.evaluate({"extra": ""})) and (
                other := pinned.get(pin.canonical(needed.name))
            ):
                assert needed.specifier.contains(Version(other), prereleases=True), f"{name} needs {needed}"


class TestCompose:
    def test_images_are_pinned(self, compose: Any) -> None:
        for service in compose["services"].values():
            tag = service["image"].rpartition(":")[2]
            assert tag == "local" or re.fullmatch(r"v?\d+\.\d+\.\d+", tag)

    def test_files_exist(self, compose: Any) -> None:
        for service in compose["services"].values():
            if "build" in service:
                context = DOCKER / service["build"]["context"]
                assert (context / service["build"]["dockerfile"]).is_file()
            for volume in service["volumes"]:
                source = volume.split(":")[0]
                assert source in compose["volumes"] or (DOCKER / source).exists(), source
        cuda = read_yaml("compose.cuda.yaml")["services"]
        assert set(cuda) <= set(compose["services"])
        assert (ROOT / cuda["stride32"]["build"]["dockerfile"]).is_file()

    def test_ports_stay_on_this_machine(self, compose: Any) -> None:
        for service in compose["services"].values():
            for port in service["ports"]:
                assert port.startswith("127.0.0.1:")
        assert compose["services"]["stride32"]["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]

    def test_the_service_can_write_only_its_volumes(self, compose: Any) -> None:
        service = compose["services"]["stride32"]
        assert service["read_only"] is True
        variables = environment(DOCKERFILES[0])
        mounted = {volume.split(":")[1] for volume in service["volumes"]} | set(service["tmpfs"])
        assert {variables["STRIDE32_DATA_DIR"], variables["STRIDE32_CACHE"], variables["HOME"], "/tmp"} <= mounted
        assert service["cap_drop"] == ["ALL"]

    def test_variables_are_settings(self, compose: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        from service.settings import Settings, load_settings

        monkeypatch.chdir(tmp_path)
        for name, value in compose["services"]["stride32"]["environment"].items():
            default = re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
            assert name.removeprefix("STRIDE32_").lower() in Settings.model_fields
            monkeypatch.setenv(name, default)
        assert load_settings().api_keys == ()

    def test_a_strangers_name_for_this_machine_is_refused(self, compose: Any) -> None:
        from service.errors import ForbiddenError
        from service.origin import BrowserGuard, exposure_warning
        from service.settings import Settings

        hosts = re.sub(
            r"\$\{\w+:-(.*)\}", r"\1", compose["services"]["stride32"]["environment"]["STRIDE32_ALLOWED_HOSTS"]
        )
        settings = Settings(_env_file=None, host=environment(DOCKERFILES[0])["STRIDE32_HOST"], allowed_hosts=hosts)
        guard = BrowserGuard(settings)
        for host in (
            f"localhost:{PORT}",
            f"127.0.0.1:{PORT}",
            f"stride32:{PORT}",
        ):  # people, the health check, Prometheus
            guard.check({"host": host}, "GET")
        with pytest.raises(ForbiddenError):
            guard.check({"host": f"evil.example:{PORT}"}, "GET")
        assert exposure_warning(settings) is None

    def test_memory_is_bounded_and_cpus_can_be(self, compose: Any) -> None:
        limits = compose["services"]["stride32"]["deploy"]["resources"]["limits"]
        assert limits == {"cpus": "${CPU_LIMIT:-0}", "memory": "${MEMORY_LIMIT:-8g}"}

    def test_docker_waits_for_draining(self, compose: Any) -> None:
        from service.settings import Settings

        grace = int(compose["services"]["stride32"]["stop_grace_period"].rstrip("s"))
        assert grace > Settings.model_fields["drain_timeout_s"].default + 10

    def test_the_health_check_asks_a_route(self, compose: Any) -> None:
        words = compose["services"]["stride32"]["healthcheck"]["test"]
        compile(words[3], "healthcheck", "exec")
        (port, path), *_ = re.findall(r"127\.0\.0\.1:(\d+)(/\w+)", words[3])
        assert int(port) == PORT
        assert path in routes()

    def test_compose_reads_it(self) -> None:
        docker = shutil.which("docker")
        if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
            pytest.skip("docker compose is not installed here")
        for files in (["compose.yaml"], ["compose.yaml", "compose.cuda.yaml"]):
            arguments = [part for name in files for part in ("-f", str(DOCKER / name))]
            subprocess.run([docker, "compose", *arguments, "config", "--quiet"], check=True, capture_output=True)


def test_prometheus_asks_the_service(compose: Any) -> None:
    config = read_yaml("prometheus.yml")
    (job,) = config["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"stride32:{PORT}"]
    assert job["metrics_path"] in routes()
    assert "stride32" in compose["services"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in compose["services"]["prometheus"]["volumes"]}
    for rules in config["rule_files"]:
        assert (DOCKER / mounted[rules]).is_file()


def test_alerts_are_complete_and_name_metrics_that_exist(metric_names: set[str]) -> None:
    (group,) = read_yaml("alerts.yml")["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names) > 5
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert metrics_of(rule["expr"]) <= metric_names | {"up"}, rule["alert"]


def test_the_dashboard_shows_metrics_that_exist_and_all_of_them(metric_names: set[str]) -> None:
    from service.metrics import METRIC_NAMES

    dashboard = json.loads((DOCKER / "grafana/dashboards/stride32.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    used = set().union(*(metrics_of(expression) for expression in expressions))
    assert used <= metric_names
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert set(METRIC_NAMES) <= shown, "each metric of the service has a panel"
    for expression in expressions:
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")


def test_panels_lie_beside_each_other() -> None:
    panels = json.loads((DOCKER / "grafana/dashboards/stride32.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not own & cells, panel["title"]
        cells |= own


def test_grafana_finds_prometheus_and_the_dashboard(compose: Any) -> None:
    (source,) = read_yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    text = (DOCKER / "grafana/dashboards/stride32.json").read_text()
    assert set(re.findall(r'"type": "prometheus",\s*"uid": "(\w+)"', text)) == {source["uid"]}
    (provider,) = read_yaml("grafana/provisioning/dashboards/stride32.yaml")["providers"]
    grafana = compose["services"]["grafana"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in grafana["volumes"]}
    folder = DOCKER / mounted[provider["options"]["path"]]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (folder / Path(home).name).is_file()
    assert home.startswith(provider["options"]["path"])


def metrics_of(expression: str) -> set[str]:
    """Return the metric names of a PromQL expression.

    >>> sorted(metrics_of('sum by (model) (rate(stride32_jobs{state="x"}[5m])) / up'))
    ['stride32_jobs', 'up']
    """
    return set(re.findall(r"\b(?:stride32_\w+|process_\w+|up)\b", re.sub(r'"[^"]*"', "", expression)))
