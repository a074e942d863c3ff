"""Labels of whole pictures as files state them: a folder a class, or a CSV table of files with labels or values.

Nothing is decoded here. What a reader cannot make sense of raises with file, line and remedy.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from vision.classification.config import Task
from vision.errors import InvalidInputError
from vision.io.images import IMAGE_SUFFIXES
from vision.io.listing import natural_key
from vision.training.datasets.label_table import EXAMPLES, LabelFile, LabelRow, read_table

log = logging.getLogger(__name__)

VAL_FOLDERS = ("val", "valid", "validation")


def find_parts(data: Path) -> tuple[Path, Path | None]:
    """Return where the training data and, if there is such a part, the validation data of ``data`` are.

    A folder with train.csv (and val.csv), or with train/ (and val/, valid/ or validation/) that hold class folders, has
    parts. A class folder that is called "train" holds pictures and so is none.
    """
    if (data / "train.csv").is_file():
        return data / "train.csv", next((path for path in (data / "val.csv",) if path.is_file()), None)
    train = data / "train"
    if train.is_dir() and any(path.is_dir() for path in _visible(train)):
        return train, next((data / name for name in VAL_FOLDERS if (data / name).is_dir()), None)
    return data, None


def read_labels(path: Path, task: Task) -> LabelFile:
    """Return what a folder of class folders or a CSV table says.

    Raises:
        InvalidInputError: neither is there, the table has other columns than the task needs, or a value cannot be used;
            names the file, the line and the remedy.
    """
    if path.is_dir():
        if task == "multiclass":
            return _read_class_folders(path)
        raise InvalidInputError(
            f"{task} data must be a CSV table ({EXAMPLES[task]}), got the folder {path}; give the CSV file, whose "
            "file column names the pictures relative to it",
            path=path,
        )
    if not path.is_file():
        raise InvalidInputError(
            f"labels must be a folder with a subfolder a class or a CSV file, found nothing at {path}; check the path",
            path=path,
        )
    return read_table(path, task)


def _read_class_folders(folder: Path) -> LabelFile:
    stray = [path.name for path in _visible(folder) if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
    if stray:
        log.warning("skipped %d pictures beside the class folders of %s, first %s", len(stray), folder, stray[0])
    rows: list[LabelRow] = []
    names = []
    for class_folder in (path for path in _visible(folder) if path.is_dir()):
        paths = sorted(_pictures_below(class_folder), key=natural_key)
        if not paths:
            log.warning("skipped class folder %s: it holds no picture; add pictures or delete it", class_folder)
            continue
        names.append(class_folder.name)
        rows += [LabelRow(path, f"folder {class_folder}", (class_folder.name,)) for path in paths]
    if not rows:
        raise InvalidInputError(
            f"{folder} must hold one subfolder a class with pictures ({', '.join(sorted(IMAGE_SUFFIXES))}), found "
            "none; give the folder above the class folders",
            path=folder,
        )
    return LabelFile(tuple(rows), tuple(names))


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)


def _pictures_below(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            Path(base) / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        )
