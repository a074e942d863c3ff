"""A GPU that is lost to the process: said once, the server ends to be started again, and probes fail meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fake_models import DETECTOR, FakeLoader, fake_server

from service import model_entry
from service.models import ServedDetector
from vision.detection.device_detector import DeviceDetector

LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")


def test_the_server_ends_and_its_probes_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []
    with fake_server(tmp_path) as server:
        server.service.on_fatal = lambda: ended.append(True)
        assert server.client.get("/healthz").status_code == 200
        server.loader.detector.failures += [LOST, LOST]
        for _ in range(2):
            reply = server.detect()
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "device_lost")
            assert "Retry-After" in reply.headers
        assert ended == [True]
        health = server.client.get("/healthz")
        assert (health.status_code, health.json()) == (503, {"status": "device_lost"})
        assert server.client.get("/readyz").status_code == 503
        assert server.detect().status_code == 200  # other models may run elsewhere
        assert server.client.get("/healthz").status_code == 503  # it never heals
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "illegal memory access" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_picture_that_cannot_reach_the_device_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(frame: Any, options: Any = None) -> Any:
        raise LOST

    with fake_server(tmp_path) as server:
        monkeypatch.setattr(server.loader.detector, "prepare", lose)
        assert server.detect().status_code == 500
        assert server.client.get("/healthz").status_code == 503


def test_a_model_that_finds_the_device_lost_when_it_is_loaded_tells_it(tmp_path: Path) -> None:
    loader = FakeLoader()
    with fake_server(tmp_path, loader=loader) as server:
        loader.failures[DETECTOR] = LOST
        with pytest.raises(RuntimeError):
            server.service.registry.load(DETECTOR)
        assert server.client.get("/healthz").status_code == 503


def test_other_failures_leave_it_alive(tmp_path: Path) -> None:
    with fake_server(tmp_path) as server:
        server.loader.detector.failures.append(RuntimeError("shapes cannot be multiplied"))
        assert server.detect().status_code == 500
        assert server.client.get("/healthz").status_code == 200


# -- memory


def test_an_unloaded_model_gives_the_memory_of_the_device_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(model_entry, "release_cached", lambda: order.append("cache emptied"))
    with fake_server(tmp_path) as server:
        monkeypatch.setattr(server.loader.detector, "close", lambda: order.append("network let go"))
        server.service.registry.unload(DETECTOR)
        assert order == ["network let go", "cache emptied"]


def test_a_served_detector_gives_up_its_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[DeviceDetector] = []
    monkeypatch.setattr(DeviceDetector, "close", lambda self: closed.append(self))
    served = ServedDetector.__new__(ServedDetector)
    served.detector = detector = DeviceDetector.__new__(DeviceDetector)
    assert served.launcher is detector
    served.close()
    assert closed == [detector]
    assert served.launcher is None


def test_the_cap_of_batches_is_told(tmp_path: Path) -> None:
    with fake_server(tmp_path, max_batch=8) as server:
        assert f'stride32_batch_cap{{model="{DETECTOR}"}} 8.0' in server.client.get("/metrics").text
