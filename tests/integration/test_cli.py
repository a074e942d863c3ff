"""The command line by subprocess: exit codes, one line on stderr, files, and what ``--help`` costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "vision.cli"]
HEAVY = {"torch", "torchvision", "timm", "cv2", "av", "scipy", "onnxruntime", "supervision", "lightning"}
COMMANDS = [
    [],
    ["demo"],
    ["track"],
    ["detect"],
    ["classify"],
    ["segment"],
    ["embed"],
    ["train"],
    ["train", "detector"],
    ["train", "embedder"],
    ["train", "classifier"],
    ["train", "roi-embedder"],
    ["eval"],
    ["eval", "detector"],
    ["eval", "embedder"],
    ["eval", "classifier"],
    ["eval", "segmenter"],
    ["eval", "track"],
    ["report"],
    ["models"],
    ["models", "list"],
    ["models", "show"],
    ["models", "pull"],
    ["models", "bench"],
]


def environment(**variables: str) -> dict[str, str]:
    """Return this environment with the checkout importable from any folder and no debugging."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STRIDE32_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", **variables}


def stride32(*args: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
    )


def start(*args: str, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a command whose pipes the test reads while it runs."""
    return subprocess.Popen(
        [*COMMAND, *args], cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert the exit code, and one line on stderr that holds the words."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def write_detections(path: Path, frames: int, objects: int = 3) -> Path:
    """Write MOTChallenge rows of objects that walk to the right."""
    rows = [
        f"{frame + 1},-1,{100 * i + 2 * frame},50,40,90,0.9,-1,-1,-1" for frame in range(frames) for i in range(objects)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


# --- help ---


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "stride32")
def test_help_loads_nothing_heavy(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from vision.cli.main import main\n"
        "try:\n"
        f"    main({[*command, '--help']!r})\n"
        "finally:\n"
        f"    print('HEAVY', sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert done.stderr.strip() == "HEAVY []"


def test_version(tmp_path: Path) -> None:
    from vision import __version__

    assert stride32("--version", cwd=tmp_path).stdout.strip() == f"stride32 {__version__}"


# --- configuration ---


def test_print_config_shows_the_effective_settings(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[tracking]\nmax_age = 5\nn_init = 9\n[detection]\nconf = 0.1\n")
    done = stride32(
        *("track", "--config", "run.toml", "--device", "cpu", "--conf", "0.2", "--no-appearance"),
        *("--set", "tracking.max_age=40", "--print-config"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    table = tomllib.loads(done.stdout)
    assert (table["tracking"]["max_age"], table["tracking"]["n_init"]) == (40, 9)
    assert table["detection"]["conf"] == 0.2
    assert table["runtime"]["device"] == "cpu"
    assert table["embedding"]["model"] == "none"
    (tmp_path / "again.toml").write_text(done.stdout)
    assert stride32("track", "--config", "again.toml", "--print-config", cwd=tmp_path).stdout == done.stdout


def test_train_print_config(tmp_path: Path) -> None:
    done = stride32("train", "embedder", "--data", "crops", "--set", "epochs=2", "--print-config", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = tomllib.loads(done.stdout)
    assert (table["data"], table["epochs"]) == ("crops", 2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("track", "video.mp4", "--set", "tracking.max_agee=4"), ("tracking.max_agee", "did you mean 'max_age'")),
        (("track", "video.mp4", "--set", "tracking.max_age"), ("KEY=VALUE",)),
        (("track", "video.mp4", "--tracker", "deepsrt"), ("did you mean 'deepsort'",)),
        (("track", "video.mp4", "--config", "absent.toml"), ("absent.toml", "check the path")),
        (("track", "video.mp4", "--device", "gpu"), ("runtime.device must be",)),
        (("track", "video.mp4", "--mot", "x.txt", "--jsonl", "x.txt"), ("a file of its own",)),
        (("train", "detector"), ("required keys are missing: train_data",)),
    ],
)
def test_wrong_settings_exit_with_2(args: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    assert_refused(stride32(*args, cwd=tmp_path), 2, *words)


@pytest.mark.parametrize("args", [("trak",), ("track", "--no-such-option"), ("track",), ("eval", "track")])
def test_wrong_usage_exits_with_2(args: tuple[str, ...], tmp_path: Path) -> None:
    done = stride32(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


# --- bad input ---


def test_a_missing_file(tmp_path: Path) -> None:
    assert_refused(stride32("track", "absent.mp4", "--mot", "out.txt", cwd=tmp_path), 1, "absent.mp4")
    assert not list(tmp_path.iterdir())


def test_a_text_file_called_mp4(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("this is no video\n" * 100)
    assert_refused(stride32("track", "notes.mp4", "--mot", "out.txt", cwd=tmp_path), 1, "notes.mp4")


def test_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(stride32("detect", "empty", "--jsonl", "out.jsonl", cwd=tmp_path), 1, "empty")


def test_an_unknown_model_suggests_a_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((40, 60, 3), 128, np.uint8))
    card = tmp_path / "store" / "person-lite0" / "card.toml"
    card.parent.mkdir(parents=True)
    card.write_text(
        'name = "person-lite0"\nkind = "detector"\nsummary = ""\nlicence = ""\n'
        f'[weights]\nsha256 = "{"0" * 64}"\n[architecture]\n[preprocess]\n'
    )
    done = stride32(
        *("detect", "grey.png", "--set", "detection.model=person-lite", "--jsonl", "out.jsonl"),
        cwd=tmp_path,
        STRIDE32_MODELS=str(tmp_path / "store"),
    )
    assert_refused(done, 1, "unknown detector 'person-lite'", "did you mean 'person-lite0'")


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (("track", "absent.mp4", "--mot"), "tracks.txt"),
        (("track", "absent.mp4", "--jsonl"), "rows.jsonl"),
        (("track", "absent.mp4", "--save-video"), "drawn.mp4"),
        (("detect", "absent.mp4", "--coco"), "found.json"),
        (("embed", "absent", "--out"), "vectors.npz"),
    ],
)
def test_an_existing_output_is_refused_before_anything_else(args: tuple[str, ...], output: str, tmp_path: Path) -> None:
    (tmp_path / output).write_text("precious")
    # The source does not exist, so an error about the output shows that it was looked at first.
    assert_refused(stride32(*args, output, cwd=tmp_path), 1, output, "exists already", "--overwrite")
    assert (tmp_path / output).read_text() == "precious"


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("precious")
    done = stride32("track", "clip.mp4", "--save-video", "./clip.mp4", "--overwrite", cwd=tmp_path)
    assert_refused(done, 2, "is the source itself")
    assert (tmp_path / "clip.mp4").read_text() == "precious"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for args, variables in ((("--debug",), {}), ((), {"STRIDE32_DEBUG": "1"})):
        done = stride32(*args, "track", "absent.mp4", cwd=tmp_path, **variables)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")


# --- association alone ---


def test_association_alone_writes_mot_and_json(tmp_path: Path) -> None:
    write_detections(tmp_path / "det.txt", frames=20)
    done = stride32("track", "--detections", "det.txt", "--mot", "out.txt", "--jsonl", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    rows = [line.split(",") for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert {len(row) for row in rows} == {10}
    assert {row[1] for row in rows} == {"1", "2", "3"}
    assert max(int(row[0]) for row in rows) == 20
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) >= 20
    assert not list(tmp_path.glob("*.part"))


def test_json_lines_on_stdout_are_clean(tmp_path: Path) -> None:
    write_detections(tmp_path / "det.txt", frames=5)
    done = stride32("track", "--detections", "det.txt", "--max-frames", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0]["kind"] == "header"
    assert rows[0]["config"]["tracking"]["n_init"] == 3
    assert [row["frame_index"] for row in rows[1:]] == [0, 1, 2, 3]
    assert "4 frames" in done.stderr


def test_out_writes_all_and_overwrite_replaces(tmp_path: Path) -> None:
    write_detections(tmp_path / "det.txt", frames=5)
    command = ("track", "--detections", "det.txt", "--out", "run")
    assert stride32(*command, cwd=tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"tracks.txt", "results.jsonl", "config.toml"}
    assert_refused(stride32(*command, cwd=tmp_path), 1, "exists already")
    assert stride32(*command, "--overwrite", cwd=tmp_path).returncode == 0


def test_ctrl_c_leaves_valid_files_and_130(tmp_path: Path) -> None:
    write_detections(tmp_path / "det.txt", frames=40_000)
    with start("track", "--detections", "det.txt", "--jsonl", "-", "--mot", "out.txt", cwd=tmp_path) as process:
        assert process.stdout is not None
        # The header and some frames: the loop runs, and tracks are old enough to be written.
        first = b"".join(process.stdout.readline() for _ in range(10))
        process.send_signal(signal.SIGINT)
        rest, messages = process.communicate(timeout=120)
    assert process.returncode == 130, messages
    assert b"interrupted" in messages
    assert b"Traceback" not in messages
    written = [json.loads(line) for line in (first + rest).splitlines()]
    assert 10 <= len(written) < 40_000
    rows = (tmp_path / "out.txt").read_text()
    assert rows.endswith("\n")
    assert all(len(row.split(",")) == 10 for row in rows.splitlines())


def test_a_closed_pipe_ends_the_run_quietly(tmp_path: Path) -> None:
    write_detections(tmp_path / "det.txt", frames=20_000)
    with start("track", "--detections", "det.txt", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        messages = process.stderr.read()
        assert process.wait(timeout=120) == 1
    assert b"Traceback" not in messages


# --- the model store ---


def test_models_of_an_empty_store(tmp_path: Path) -> None:
    done = stride32("models", "show", "absent", cwd=tmp_path)
    assert_refused(done, 1, "unknown model 'absent'")


# --- the whole path with real networks of random weights ---

QUICK = (
    *("--set", "runtime.engine=torch", "--set", "runtime.device=cpu", "--set", "detection.conf=0"),
    *("--set", "detection.max_det=5", "--set", "tracking.high_conf=0"),
)


@pytest.fixture(scope="module")
def random_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a model store with the names of the default models; what they find is noise."""
    import torch
    from safetensors.torch import save_file

    from vision.backbones.registry import build_backbone
    from vision.detection.anchors import AnchorConfig
    from vision.detection.config import DetectorConfig
    from vision.detection.fpn_lite import build_fpn_lite
    from vision.reid.config import EmbedderConfig
    from vision.reid.network import EmbeddingNetwork
    from vision.store import ModelCard, file_sha256, write_card

    store = tmp_path_factory.mktemp("store")

    def save(name: str, network: torch.nn.Module, **fields: Any) -> None:
        (store / name).mkdir()
        path = store / name / "weights.safetensors"
        save_file(network.state_dict(), path)
        constants = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
        fields["preprocess"] = {**constants, **fields["preprocess"]}
        card = ModelCard(
            name=name, folder=store / name, summary="noise", sha256=file_sha256(path), licence="Apache-2.0", **fields
        )
        write_card(store / name, card)

    torch.manual_seed(0)
    backbone = "tf_efficientnet_lite0"
    anchors = AnchorConfig()
    save(
        DetectorConfig().model,
        build_fpn_lite(build_backbone(backbone), num_classes=1, anchors=anchors, channels=16, head_depth=1),
        kind="detector",
        labels=("person",),
        preprocess={"long_side": 128, "multiple": 64},
        architecture={"backbone": backbone, "channels": 16, "head_depth": 1, "anchors": asdict(anchors)},
    )
    save(
        EmbedderConfig().model,
        EmbeddingNetwork(build_backbone(backbone), stride=8, dim=16),
        kind="embedder",
        preprocess={"size_hw": [64, 32]},
        architecture={"backbone": backbone, "stride": 8, "dim": 16},
    )
    return str(store)


def test_demo_with_random_weights(random_store: str, tmp_path: Path) -> None:
    done = stride32("demo", "--max-frames", 6, *QUICK, cwd=tmp_path, STRIDE32_MODELS=random_store)
    assert done.returncode == 0, done.stderr
    assert "frames           6" in done.stdout
    assert {path.name for path in (tmp_path / "demo-output").iterdir()} == {
        *("tracks.txt", "results.jsonl", "annotated.mp4", "contact-sheet.png", "config.toml"),
    }
    results = (tmp_path / "demo-output/results.jsonl").read_text().splitlines()
    assert "embed" in json.loads(results[-1])["timings_ms"]


def test_a_truncated_picture_in_a_directory_exits_with_3(random_store: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("1.jpg", "2.jpg"):
        cv2.imwrite(str(tmp_path / "in" / name), np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    whole = (tmp_path / "in/2.jpg").read_bytes()
    (tmp_path / "in/2.jpg").write_bytes(whole[: len(whole) // 2])
    variables = {"STRIDE32_MODELS": random_store}
    done = stride32("detect", "in", "--coco", "found.json", *QUICK, cwd=tmp_path, **variables)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("warning: ") and "2.jpg" in line]
    assert {row["image_id"] for row in json.loads((tmp_path / "found.json").read_text())} == {1}

    done = stride32("embed", "in", "--out", "vectors.npz", *QUICK, cwd=tmp_path, **variables)
    assert done.returncode == 3, done.stderr
    with np.load(tmp_path / "vectors.npz") as arrays:
        assert arrays["names"].tolist() == ["1.jpg"]
        assert np.linalg.norm(arrays["embeddings"], axis=1) == pytest.approx([1.0], abs=1e-5)
