"""Which files hold the ground truth and the results of which sequence; says what was found instead when none fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from vision.errors import InvalidInputError, closest_hint

log = logging.getLogger(__name__)

Files = Path | str | Mapping[str, Path]

TEXT_SUFFIXES = (".txt", ".mot")
TRACK_SUFFIXES = (*TEXT_SUFFIXES, ".csv", ".json", ".jsonl", ".parquet")
COMBINED = "combined"
# What `stride32 track --out results/SEQ` writes.
RUN_FILE = "tracks.txt"
# Folders that benchmarks put above their sequences, and TrackEval around the files of a tracker.
_DEEPEST = 4


def ground_truth_files(ground_truth: Files) -> dict[str, Path]:
    """Return sequence name -> ground truth file, sorted by name.

    A folder may hold SEQ/gt/gt.txt, SEQ/gt.txt, SEQ.txt (or another format of tracks), or be one sequence itself.

    Raises:
        InvalidInputError: there is none of these, or a sequence has the name of the total.
    """
    if isinstance(ground_truth, Mapping):
        files = {name: Path(path) for name, path in sorted(ground_truth.items())}
    else:
        files = _find_ground_truth(Path(ground_truth))
    if COMBINED in files:
        raise InvalidInputError(
            f"a sequence must not be named {COMBINED!r}, which names the total; rename its file or folder"
        )
    return files


def result_files(results: Files, sequences: Mapping[str, Path]) -> dict[str, Path]:
    """Return sequence name -> result file for every sequence of the ground truth, or raise with the names missing.

    A folder holds SEQ.txt (or another format), or SEQ/tracks.txt as ``stride32 track --out`` writes it. A file is the
    result of the only sequence.
    """
    if isinstance(results, Mapping):
        files = {name: Path(results[name]) for name in sequences if name in results}
        found = set(results)
    elif Path(results).is_dir():
        known = _find_results(Path(results))
        files = {name: known[name] for name in sequences if name in known}
        # The ground truth may lie in the same folder; it is nobody's result.
        found = {name for name, path in known.items() if path not in sequences.values()}
    else:
        return _single_result(Path(results), list(sequences))
    missing = [name for name in sequences if name not in files or not files[name].is_file()]
    if missing:
        raise _missing_results(results, missing, sorted(found), len(sequences))
    extra = sorted(found - set(files))
    if extra and len(extra) < 20:
        log.warning("results without ground truth are not scored: %s", ", ".join(extra))
    return files


def sequence_folder(path: Path) -> Path:
    """Return the folder of a sequence, where seqinfo.ini and img1 lie, from its ground truth file."""
    return path.absolute().parent.parent if path.absolute().parent.name == "gt" else path.absolute().parent


def _find_ground_truth(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {sequence_folder(path).name if path.absolute().parent.name == "gt" else path.stem: path}
    if (path / "gt" / "gt.txt").is_file():
        return {path.absolute().name: path / "gt" / "gt.txt"}
    for pattern in ("*/gt/gt.txt", "*/gt.txt"):
        found = sorted(path.glob(pattern))
        if found:
            return {sequence_folder(file).name: file for file in found}
    flat = _by_stem(path) if path.is_dir() else {}
    if flat:
        return flat
    raise _no_ground_truth(path)


def _no_ground_truth(path: Path) -> InvalidInputError:
    if not path.exists():
        return InvalidInputError(f"ground truth must be a folder or a file, found nothing at {path}; check the path")
    deeper = [file.parents[2] for depth in range(2, _DEEPEST) for file in path.glob("*/" * depth + "gt/gt.txt")]
    advice = "pass the folder above the sequences"
    if deeper:
        advice = f"there are sequences in {sorted(set(deeper))[0]}: pass that folder"
    return InvalidInputError(
        f"ground truth must lie in SEQ/gt/gt.txt (MOTChallenge, DanceTrack, SportsMOT) or SEQ.txt, got none in {path}; "
        f"{advice}",
        path=path,
    )


def _find_results(folder: Path) -> dict[str, Path]:
    runs = {file.parent.name: file for file in sorted(folder.glob(f"*/{RUN_FILE}"))}
    return {**runs, **_by_stem(folder)}


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the files of tracks in a folder by name without ending; text first where there are several."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in TRACK_SUFFIXES and file.is_file()]
    ranked = sorted(files, key=lambda file: TRACK_SUFFIXES.index(file.suffix.lower()))
    by_stem: dict[str, Path] = {}
    for file in ranked:
        by_stem.setdefault(file.stem, file)
    return dict(sorted(by_stem.items()))


def _single_result(path: Path, sequences: list[str]) -> dict[str, Path]:
    if not path.is_file():
        raise InvalidInputError(f"results must be a folder or a file, found nothing at {path}; check the path")
    if len(sequences) != 1:
        raise InvalidInputError(
            f"one result file must have one sequence of ground truth, got {len(sequences)} ({_some(sequences)}); "
            "pass a folder with one file for each, or the ground truth file of this sequence",
            path=path,
        )
    return {sequences[0]: path}


def _missing_results(results: Files, missing: list[str], found: list[str], total: int) -> InvalidInputError:
    hint = "".join(closest_hint(name, found) for name in missing[:1])
    advice = "write an empty file where nothing was tracked"
    if not isinstance(results, Mapping):
        below = [path.parent for path in Path(results).glob(f"*/{missing[0]}.txt")]
        if below:
            advice = f"there are files in {below[0]}: pass that folder"
        elif len(found) == 1 and total == 1:
            advice = f"pass the file of {found[0]} itself, or rename it"
        elif found:
            advice = f"name the files as the sequences; it holds {_some(found)}"
    return InvalidInputError(
        f"results must hold one file SEQ.txt for each of {total} sequences, got none for {_some(missing)}{hint}; "
        f"{advice}"
    )


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
