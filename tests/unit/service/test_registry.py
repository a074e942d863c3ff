"""The registry: leases, swaps under load, failed loads, and what it calls ready."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import CLASSIFIER, DETECTOR, EMBEDDER, SEGMENTER, FakeLoader, fake_settings, until

from service import catalogue, model_entry
from service.catalogue import published_kind
from service.errors import InferenceFailedError, NotFoundError, UnavailableError
from service.metrics import Metrics
from service.model_entry import ModelState
from service.registry import ModelRegistry
from vision.errors import ConfigError, MediaError, ModelError, VisionError, WeightsError
from vision.types import Frame

Made = tuple[ModelRegistry, FakeLoader]


def make(folder: Path, *, start: bool = True, **values: Any) -> Made:
    loader = FakeLoader()
    made = ModelRegistry(fake_settings(folder, **values), Metrics(), loader)
    if start:
        made.start()
    return made, loader


@pytest.fixture
def made(tmp_path: Path) -> Any:
    registry, loader = make(tmp_path)
    yield registry, loader
    for models in loader.made.values():
        for model in models:
            model.gate.set()
    registry.close()


def ask(registry: ModelRegistry, red: int = 100) -> Any:
    """Return (serial of the model that answered, red that it saw)."""
    with registry.resolve("detect").lease() as loaded:
        prepared = loaded.served.prepare(Frame(np.full((8, 8, 3), red, np.uint8)))
        found = loaded.batcher.ask(prepared, timeout_s=20).value
        return int(loaded.served.class_names[0].removeprefix("red-")), round(float(found.scores[0]) * 255)


def test_start_loads_the_defaults_once_each(made: Made) -> None:
    registry, loader = made
    assert sorted(loader.made) == sorted([DETECTOR, SEGMENTER, CLASSIFIER, EMBEDDER])
    assert all(len(models) == 1 for models in loader.made.values())
    assert registry.is_ready()
    assert set(registry.states().values()) == {"ready"}
    assert "person-window" in registry.entries
    assert "person-window" not in registry.states()


def test_before_the_start_nothing_is_ready(tmp_path: Path) -> None:
    registry, _ = make(tmp_path, start=False)
    assert not registry.is_ready()
    with pytest.raises(UnavailableError, match="loading"):
        registry.resolve("detect")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"detector": "person-lite"}, "did you mean 'person-lite0'"),
        ({"detector": SEGMENTER}, "must be one for detect"),
        ({"preload": ("nothing",)}, "nothing"),
        ({"device": "cuda:99"}, "cuda"),
    ],
    ids=["misspelt", "of another task", "preload", "device"],
)
def test_start_with_what_does_not_exist_is_an_error(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    registry, loader = make(tmp_path, start=False, **values)
    with pytest.raises(VisionError, match=says):
        registry.start()
    assert not loader.made
    assert not registry.is_ready()


@pytest.mark.parametrize(
    "error",
    [
        WeightsError("weights must have digest a, got b; pull the model again"),
        RuntimeError("digest of a foreign library"),
        OSError("/srv/digest: no such file"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_model_that_fails_leaves_the_others(error: Exception, tmp_path: Path) -> None:
    registry, loader = make(tmp_path, start=False)
    loader.failures[SEGMENTER] = error
    registry.start()
    entry = registry.find(SEGMENTER)
    assert (entry.state, registry.find(DETECTOR).state) == (ModelState.FAILED, ModelState.READY)
    assert ("digest" in entry.error) == isinstance(error, WeightsError)  # of foreign errors the log tells, not clients
    with pytest.raises(UnavailableError):
        entry.acquire()
    assert registry.is_ready()
    registry.close()


def test_without_the_first_default_the_server_is_not_ready(tmp_path: Path) -> None:
    registry, loader = make(tmp_path, start=False)
    loader.failures[DETECTOR] = RuntimeError("broken")
    registry.start()
    assert not registry.is_ready()
    registry.load(DETECTOR)
    assert registry.is_ready()
    registry.close()


def test_no_model_at_all_is_an_error(tmp_path: Path) -> None:
    none = {"segmenter": "none", "classifier": "none", "embedder": "none"}
    for error in (RuntimeError("/srv/x: no such file"), ModelError("broken")):
        registry, loader = make(tmp_path, start=False, **none)
        loader.failures[DETECTOR] = error
        with pytest.raises(UnavailableError, match=DETECTOR):
            registry.start()
        assert "srv" not in registry.find(DETECTOR).error


def test_what_an_operator_unloads_is_not_missed(made: Made) -> None:
    registry, _ = made
    registry.unload(CLASSIFIER)
    assert registry.is_ready()
    assert CLASSIFIER not in registry.states()


def test_only_models_that_are_wanted_have_a_readiness(made: Made) -> None:
    registry, _ = made

    def told() -> set[str]:
        lines = registry.metrics.exposition().decode().splitlines()
        return {line for line in lines if line.startswith("stride32_model_ready{")}

    assert told() == {
        f'stride32_model_ready{{model="{name}"}} 1.0' for name in (DETECTOR, SEGMENTER, CLASSIFIER, EMBEDDER)
    }
    registry.unload(SEGMENTER)
    assert not any(SEGMENTER in line for line in told())


def test_models_that_left_the_disk_are_forgotten_unless_loaded(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, _ = made
    monkeypatch.setattr(catalogue, "list_models", lambda on_broken: [])
    registry.refresh()
    assert set(registry.entries) == {DETECTOR, SEGMENTER, CLASSIFIER, EMBEDDER}


def test_the_end_does_not_wait_for_a_model_that_is_being_loaded(made: Made) -> None:
    registry, _ = made
    with registry.find(DETECTOR).changing:  # held by whoever loads
        registry.close()
    assert registry.find(DETECTOR).loaded is not None
    assert registry.find(SEGMENTER).loaded is None


def test_service_of_sessions_alone_may_have_no_models(tmp_path: Path) -> None:
    registry, _ = make(tmp_path, detector="none", segmenter="none", classifier="none", embedder="none")
    assert registry.is_ready()
    with pytest.raises(NotFoundError, match="no default"):
        registry.resolve("detect")


def test_resolve_names_what_there_is(made: Made) -> None:
    registry, _ = made
    assert registry.resolve("detect").name == DETECTOR
    with pytest.raises(NotFoundError, match="person-lite0"):
        registry.resolve("detect", "person-lite")
    with pytest.raises(NotFoundError, match="is for segment"):
        registry.resolve("detect", SEGMENTER)
    with pytest.raises(UnavailableError, match="available"):
        registry.resolve("detect", "person-window").acquire()


def test_swap_answers_what_began_with_the_old_one_and_closes_it_once(made: Made) -> None:
    registry, loader = made
    entry, old = registry.find(DETECTOR), loader.detector
    lease = entry.acquire()
    registry.load(DETECTOR)
    new = loader.detector
    assert new is not old
    assert ask(registry) == (1, 100)
    assert old.closed == 0
    # Whoever holds the old one can still ask it.
    assert lease.batcher.ask(old.prepare(Frame(np.zeros((8, 8, 3), np.uint8)))).value is not None
    lease.release()
    until(old.closing)
    assert (old.closed, new.closed) == (1, 0)


def test_swaps_under_load_drop_nothing_and_mix_nothing_up(made: Made) -> None:
    registry, loader = made
    stop = threading.Event()

    def work(worker: int) -> list[tuple[int, tuple[int, int]]]:
        done = []
        for turn in range(10_000):
            red = (worker * 31 + turn) % 256
            done.append((red, ask(registry, red)))
            if stop.is_set():
                break
        return done

    with ThreadPoolExecutor(6) as pool:
        works = [pool.submit(work, worker) for worker in range(6)]
        for _ in range(5):
            registry.load(DETECTOR)
        stop.set()
        results = [result for each in works for result in each.result(20)]
    assert all(red == seen for red, (_, seen) in results)
    for old in loader.made[DETECTOR][:-1]:
        until(old.closing)
    assert [model.closed for model in loader.made[DETECTOR]] == [1, 1, 1, 1, 1, 0]


def test_failed_load_keeps_the_old_model(made: Made) -> None:
    registry, loader = made
    entry, card = registry.find(DETECTOR), registry.find(DETECTOR).card
    loader.failures[DETECTOR] = WeightsError("weights must have digest a, got b; pull the model again")
    with pytest.raises(WeightsError):
        registry.load(DETECTOR)
    assert (entry.state, entry.card) == (ModelState.READY, card)
    assert "digest" in entry.error
    assert ask(registry) == (0, 100)
    registry.load(DETECTOR)
    assert entry.error == ""


def test_unload_waits_for_requests_that_have_not_asked_yet(made: Made) -> None:
    registry, loader = made
    entry = registry.find(DETECTOR)
    lease = entry.acquire()  # as a request whose picture is being decoded
    unloading = threading.Thread(target=registry.unload, args=(DETECTOR,))
    unloading.start()
    while entry.state is not ModelState.UNLOADING:
        time.sleep(0)
    with pytest.raises(UnavailableError):
        entry.acquire()
    answer = lease.batcher.ask(lease.served.prepare(Frame(np.zeros((8, 8, 3), np.uint8))))
    assert answer.value is not None
    assert unloading.is_alive()
    lease.release()
    unloading.join(20)
    assert (entry.state, loader.detector.closed) == (ModelState.AVAILABLE, 1)


def test_unload_does_not_wait_for_ever(tmp_path: Path) -> None:
    registry, loader = make(tmp_path)
    lease = registry.find(DETECTOR).acquire()
    registry.unload(DETECTOR, wait_s=0.01)
    assert loader.detector.closed == 0
    lease.release()
    until(loader.detector.closing)
    registry.close()


def test_unloaded_model_comes_back(made: Made) -> None:
    registry, _ = made
    registry.unload(DETECTOR)
    registry.unload(DETECTOR)
    assert registry.is_ready()  # an operator's wish is no fault
    with pytest.raises(UnavailableError):
        ask(registry)
    registry.load(DETECTOR)
    assert registry.is_ready()
    assert ask(registry) == (1, 100)


def test_default_must_be_loaded_and_for_the_task(made: Made) -> None:
    registry, _ = made
    with pytest.raises(UnavailableError):
        registry.set_default("detect", "person-window")
    with pytest.raises(NotFoundError):
        registry.set_default("detect", SEGMENTER)
    registry.load("person-window")
    registry.set_default("detect", "person-window")
    assert registry.resolve("detect").name == "person-window"


def fail(registry: ModelRegistry, loader: FakeLoader, error: BaseException, times: int) -> None:
    for _ in range(times):
        loader.detector.failures.append(error)
        with pytest.raises(VisionError):
            ask(registry)


def test_model_that_fails_again_and_again_is_unwell_until_it_answers(made: Made) -> None:
    registry, loader = made
    fail(registry, loader, RuntimeError("device lost"), model_entry.UNWELL_AFTER)
    assert not registry.is_ready()
    assert registry.states()[DETECTOR] == "failing"
    assert f'stride32_model_ready{{model="{DETECTOR}"}} 0.0' in registry.metrics.exposition().decode()
    assert ask(registry) == (0, 100)
    assert registry.is_ready()
    assert f'stride32_model_ready{{model="{DETECTOR}"}} 1.0' in registry.metrics.exposition().decode()


def test_unwell_model_is_tried_again_after_a_while(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, loader = made
    fail(registry, loader, RuntimeError("device lost"), model_entry.UNWELL_AFTER)
    monkeypatch.setattr(model_entry, "UNWELL_S", 0.0)
    # A balancer that sends nothing to who is not ready would never see it recover.
    assert registry.is_ready()


def test_pictures_that_a_model_refuses_do_not_make_it_unwell(made: Made) -> None:
    registry, loader = made
    for error in (MediaError("too odd a picture"), ConfigError("no such class")):
        fail(registry, loader, error, model_entry.UNWELL_AFTER)
    assert registry.is_ready()
    assert registry.find(DETECTOR).metrics.failure_count == 2 * model_entry.UNWELL_AFTER


def test_loading_again_makes_it_well(made: Made) -> None:
    registry, loader = made
    fail(registry, loader, RuntimeError("device lost"), model_entry.UNWELL_AFTER)
    registry.load(DETECTOR)
    assert registry.is_ready()


def test_entries_can_be_looked_through_while_models_are_found(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, _ = made
    known = registry.find(DETECTOR).card
    assert known is not None
    looked = iter(registry.entries.values())
    next(looked)
    monkeypatch.setattr(catalogue, "list_models", lambda on_broken: [_Renamed(known, "new-model")])
    registry.refresh()
    list(looked)  # a dictionary that grew meanwhile would raise
    assert registry.find("new-model").state is ModelState.AVAILABLE
    before = registry.find("new-model")
    registry.refresh()
    assert registry.find("new-model") is before


class _Renamed:
    """A card under another name."""

    def __init__(self, card: Any, name: str) -> None:
        self._card = card
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._card, name)


def test_batches_are_as_large_as_the_settings_say(tmp_path: Path) -> None:
    registry, _ = make(tmp_path, max_batch=3)
    with registry.find(DETECTOR).lease() as loaded:
        assert loaded.batcher.max_batch == 3
    registry.close()


def test_failing_model_fails_its_requests_alone(made: Made) -> None:
    registry, loader = made
    loader.detector.failures.append(RuntimeError("once"))
    with pytest.raises(InferenceFailedError):
        ask(registry)
    assert ask(registry) == (0, 100)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fasterrcnn_resnet50_fpn_v2", "detector"),
        ("lraspp_mobilenet_v3_large", "segmenter"),
        ("resnet18", "classifier"),
        ("person-lite0", None),
        ("nothing", None),
    ],
)
def test_published_networks_are_known_by_their_kind(name: str, kind: str | None) -> None:
    assert published_kind(name) == kind


def test_published_networks_are_known_when_they_are_asked_for(tmp_path: Path) -> None:
    registry, _ = make(tmp_path, segmenter="fcn_resnet50", preload=("fasterrcnn_resnet50_fpn_v2",))
    assert registry.resolve("segment").name == "fcn_resnet50"
    assert registry.resolve("detect", "fasterrcnn_resnet50_fpn_v2").describe()["sha256"] is None
    assert "retinanet_resnet50_fpn_v2" not in registry.entries
    registry.close()
