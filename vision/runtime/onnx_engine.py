"""ONNX Runtime engine: the default on the CPU, 2-4 times faster than eager torch there with the same results.

A network is exported once and cached under its weights' digest and the versions that shaped the file. The cached file
is written beside its final name and renamed, so processes that race leave one whole file; a damaged file is exported
again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
import threading
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from vision import __version__, cache
from vision.errors import ModelError
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_graph import fuse_padding
from vision.types import FloatArray

log = logging.getLogger(__name__)
OPSET = 17
# Counts the ways in which we made files of the same network; a new number makes old cache entries unused.
EXPORT_REVISION = 2


class OnnxEngine:
    """Runs an exported network on the CPU."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        self.session = _open_session(model, threads)
        self.input_name = self.session.get_inputs()[0].name

    @property
    def name(self) -> str:
        """Engine and device."""
        return "onnx:cpu"

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Return the outputs for float32 [B, 3, H, W]."""
        outputs: list[FloatArray] = self.session.run(None, {self.input_name: batch})
        return outputs


class ParallelOnnxEngine:
    """Runs an exported network for several callers at once: alone on all threads, in company on one thread each.

    Splitting one picture's work over threads leaves each of them waiting for the others now and then; pictures side by
    side do not wait. The results are the same to the last bit.
    """

    def __init__(self, model: bytes, *, threads: int) -> None:
        self._wide = OnnxEngine(model, threads=threads)
        # With one thread ONNX Runtime computes in the caller's own, so one session serves all callers.
        self._narrow = OnnxEngine(model, threads=1)
        self._running = 0
        self._counting = threading.Lock()

    @property
    def name(self) -> str:
        """Engine and device."""
        return self._wide.name

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Return the outputs for float32 [B, 3, H, W]; may be called from several threads at once."""
        with self._counting:
            engine = self._narrow if self._running else self._wide
            self._running += 1
        try:
            return engine.run(batch)
        finally:
            with self._counting:
                self._running -= 1


def _open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads would take the cores from video decoding and encoding, which run beside us.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ORT raises its own undocumented classes
        raise ModelError(f"ONNX Runtime cannot open the exported model: {exc}; delete the cache and try again") from exc


def cached_export(network: nn.Module, spec: EngineInput) -> bytes:
    """Return the ONNX bytes of a network, from the cache when an intact file is there, else exported and stored."""
    path = cache_folder() / f"{cache_key(network, spec)}.onnx"
    stored = _read_stored(path)
    if stored is not None:
        return stored
    log.info("exporting the network for ONNX Runtime (once)")
    model = export(network, spec)
    try:
        _store(path, model)
    except OSError as exc:
        log.warning("the exported model cannot be cached (%s); set STRIDE32_CACHE to a writable folder", exc.strerror)
    return model


def export(network: nn.Module, spec: EngineInput) -> bytes:
    """Return the network as ONNX bytes with a free batch axis, and free height and width if the spec says so."""
    axes = {0: "batch", 2: "height", 3: "width"} if spec.dynamic_hw else {0: "batch"}
    example = torch.zeros(2, spec.channels, *spec.example_hw)
    buffer = io.BytesIO()
    was_training = network.training
    with warnings.catch_warnings():
        # The tracing exporter is deprecated in favour of one that takes 7 times as long and gives the same graph for
        # our networks (docs/decisions/onnx-export.md); the golden test of the engines guards it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval().cpu(),
            (example,),
            buffer,  # type: ignore[arg-type]  # the tracing exporter takes a stream
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            dynamic_axes={"images": axes},
        )
    network.train(was_training)
    return fuse_padding(buffer.getvalue())


def cache_folder() -> Path:
    """Return the folder of exported models."""
    return cache.cache_folder("onnx")


def cache_key(network: nn.Module, spec: EngineInput) -> str:
    """Return a digest of all that shapes the exported file: weights, architecture, input, versions."""
    parts = (
        spec.digest,
        repr(network),
        repr(spec),
        str(OPSET),
        str(EXPORT_REVISION),
        __version__,
        torch.__version__,
        onnxruntime.__version__,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _read_stored(path: Path) -> bytes | None:
    """Return what ``_store`` wrote, or None when it is not there, not readable or damaged."""
    try:
        model = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:  # a cache shared with another user
        log.warning("cached model %s cannot be read (%s); exporting it again", path.name, exc.strerror)
        return None
    # The last 32 bytes are the digest of the rest: a file cut short by a full disk must not be run.
    if hashlib.sha256(model[:-32]).digest() == model[-32:]:
        return model[:-32]
    log.warning("cached model %s is damaged; exporting it again", path.name)
    return None


def _store(path: Path, model: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            file.write(model + hashlib.sha256(model).digest())
            file.flush()
            part.replace(path)
        except OSError:
            part.unlink()
            raise
