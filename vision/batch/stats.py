"""What a run tells of itself: its progress while it goes on, and its report at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far a run is.

    Attributes:
        done_items: items that this run has finished, failed ones included.
        total_items: of the whole job.
        rows: rows that this run has made.
        failures: items that failed in this run, wholly or in part.
        committed_shards: of the whole job, those of earlier runs included.
        total_shards: of the whole job.
        skipped_items: items of shards that earlier runs committed; they are not in ``done_items``.
    """

    done_items: int
    total_items: int
    rows: int = 0
    failures: int = 0
    committed_shards: int = 0
    total_shards: int = 0
    skipped_items: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeconds:
    """Seconds that the workers of each stage were busy, summed over them, and how many there were.

    Attributes:
        fetch_s: waiting for bytes that do not lie on this machine, in ``fetchers`` threads.
        decode_s: bytes to pixels, in ``decoders`` processes.
        infer_s: pixels to rows, in ``inferers`` processes, one a device.
        write_s: rows to committed files, in ``writers`` threads or processes.
    """

    fetch_s: float = 0.0
    decode_s: float = 0.0
    infer_s: float = 0.0
    write_s: float = 0.0
    fetchers: int = 1
    decoders: int = 1
    inferers: int = 1
    writers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a run ended.

    Attributes:
        task, source, out, engine: as asked for.
        device: what the networks ran on, in words.
        items: items that this run finished, failed ones included.
        rows: rows that this run wrote.
        failures: items that failed in this run, wholly or in part.
        skipped_items: items of shards that earlier runs committed.
        committed_shards, total_shards: of the whole job, at the end.
        total_rows, total_failures: of all committed shards.
        seconds: wall time of the run.
        startup_s: of these, the seconds before the first item could be worked on: processes, models, listing.
        stages: busy time of each stage.
        device_idle_share: share of the time after the start in which inference waited for something to do, in [0, 1];
            the mean over the devices.
        finished: all shards are committed.
        interrupted: somebody asked it to stop.
        stopped_by_errors: more items failed than ``max_errors`` allows.
        cpus: that the run could use.
        versions: of Stride32 and of the packages that decide results and speed.
        notes: lines about inputs that were left out or are damaged, as they were listed.
    """

    task: str
    source: str
    out: str
    engine: str
    device: str
    items: int
    rows: int
    failures: int
    skipped_items: int
    committed_shards: int
    total_shards: int
    total_rows: int
    total_failures: int
    seconds: float
    startup_s: float = 0.0
    stages: StageSeconds = field(default_factory=StageSeconds)
    device_idle_share: float = 0.0
    finished: bool = True
    interrupted: bool = False
    stopped_by_errors: bool = False
    cpus: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def images_per_s(self) -> float:
        """Rows of this run a second, its start left out; 0 where it made none."""
        return self.rows / max(self.seconds - self.startup_s, 1e-9) if self.rows else 0.0
