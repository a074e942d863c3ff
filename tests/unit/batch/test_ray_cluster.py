"""How a cluster is divided among actors, and in which portions they get their work; Ray itself is not needed here."""

from __future__ import annotations

import pytest

from vision.batch.config import BatchConfig, RunOptions
from vision.batch.ray_cluster import Share, divide
from vision.batch.ray_engine import RayEngine, plan_orders
from vision.batch.ray_results import Trouble
from vision.batch.run import RayOptions
from vision.config import PipelineConfig
from vision.errors import ConfigError, ModelNotFoundError, OutputExistsError, StateError
from vision.runtime.config import RuntimeConfig

BIG, SMALL, GPUS = {"CPU": 64.0}, {"CPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}
HEAD = {"CPU": 0.0}


@pytest.mark.parametrize(
    ("options", "nodes", "share"),
    [
        (RayOptions(), [SMALL], Share(1, 4, 0)),
        (RayOptions(), [HEAD, BIG, SMALL], Share(17, 4, 0)),
        (RayOptions(cpus=8), [BIG, SMALL], Share(8, 8, 0)),
        (RayOptions(workers=2, cpus=2), [SMALL], Share(2, 2, 0)),
        (RayOptions(gpus=1), [BIG, GPUS], Share(4, 8, 1)),
        (RayOptions(gpus=0.1), [GPUS], Share(32, 1, 0.1)),
        (RayOptions(gpus=0.5, cpus=16), [GPUS, GPUS], Share(4, 16, 0.5)),
    ],
)
def test_a_cluster_is_divided(options: RayOptions, nodes: list[dict[str, float]], share: Share) -> None:
    assert divide(options, nodes, is_fixed=True) == share


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        (RayOptions(), []),
        (RayOptions(), [HEAD]),
        (RayOptions(gpus=1), [BIG]),
        (RayOptions(cpus=5), [SMALL]),
        (RayOptions(workers=3, cpus=2), [SMALL]),
    ],
)
def test_what_fits_nowhere_is_refused(options: RayOptions, nodes: list[dict[str, float]]) -> None:
    with pytest.raises(ConfigError, match="must have room for"):
        divide(options, nodes, is_fixed=True)


def test_a_cluster_that_grows_may_have_more_actors_than_room() -> None:
    assert divide(RayOptions(workers=9, cpus=2), [SMALL], is_fixed=False).workers == 9


@pytest.mark.parametrize(("n_shards", "workers"), [(1, 1), (3, 8), (1000, 1), (5000, 7)])
def test_orders_have_every_shard_once_and_end_small(n_shards: int, workers: int) -> None:
    pending = list(range(0, 2 * n_shards, 2))
    orders = plan_orders(pending, workers)
    assert [shard for order in orders for shard in order] == pending
    assert [len(order) for order in orders] == sorted((len(order) for order in orders), reverse=True)
    assert all(len(order) == 1 for order in orders[-2 * workers :])


def test_errors_keep_their_kind_and_their_words() -> None:
    found = Trouble.of(ModelNotFoundError("x", ["y"])).error()
    assert type(found).__name__ == "ModelError"
    assert "unknown model 'x'" in str(found)
    assert type(Trouble.of(OutputExistsError("there")).error()).__name__ == "InvalidInputError"
    assert str(Trouble.of(OSError("disk\non fire")).error()) == "OSError: disk on fire"
    assert isinstance(Trouble.of(OSError()).error(), StateError)


@pytest.mark.parametrize(
    ("device", "devices", "gpus", "words"),
    [
        ("auto", ("cuda:0",), 0.0, "--devices is an option of --engine local"),
        ("cuda", (), 0.0, "needs actors with GPUs"),
        ("cpu", (), 1.0, "needs no GPUs"),
        ("auto", (), 1.5, "a share below 1 or a whole number"),
    ],
)
def test_devices_that_do_not_go_together_are_refused(
    device: str, devices: tuple[str, ...], gpus: float, words: str
) -> None:
    config = BatchConfig(task="detect", pipeline=PipelineConfig(runtime=RuntimeConfig(device=device)))
    with pytest.raises(ConfigError, match=words):
        RayEngine(config, RunOptions(devices=devices), RayOptions(gpus=gpus), out="out")
