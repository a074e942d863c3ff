"""Where pictures and their masks lie: images/ beside masks/, train/ and val/ of such, or Pascal VOC's folders."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from vision.errors import InvalidInputError
from vision.io.writers.images import safe_relative_path

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VOC_MASKS = "SegmentationClass"


@dataclass(frozen=True, slots=True)
class MaskedPicture:
    """A picture and the file that tells the class of each of its pixels."""

    image: Path
    mask: Path


def find_parts(folder: Path) -> tuple[tuple[MaskedPicture, ...], tuple[MaskedPicture, ...]]:
    """Return the pictures to train on and to validate on that lie in ``folder``; the latter may be none.

    Raises:
        InvalidInputError: the folder is missing or of no known layout, or a picture has no mask.
    """
    if not folder.is_dir():
        raise InvalidInputError(
            f"pictures and masks must lie in a folder, found no folder {folder}; correct the path", path=folder
        )
    if (folder / VOC_MASKS).is_dir():
        return _voc_list(folder, "train"), _voc_list(folder, "val")
    if (folder / "images").is_dir():
        return pairs_of(folder), ()
    if (folder / "train" / "images").is_dir():
        return pairs_of(folder / "train"), pairs_of(folder / "val") if (folder / "val" / "images").is_dir() else ()
    raise InvalidInputError(
        f"{folder} must hold images/ and masks/, or train/ and val/ of such, or Pascal VOC's JPEGImages/ and "
        f"{VOC_MASKS}/, found {', '.join(sorted(path.name for path in folder.iterdir())[:8]) or 'nothing'}; "
        "give the folder above them",
        path=folder,
    )


def pairs_of(folder: Path) -> tuple[MaskedPicture, ...]:
    """Return the pictures of ``folder/images``, each with the mask in ``folder/masks`` of its name but for the suffix.

    Raises:
        InvalidInputError: no pictures, no masks, a picture without its own mask, or two files of one name.
    """
    masks_folder = folder / "masks"
    if not masks_folder.is_dir():
        raise InvalidInputError(
            f"masks must lie in {masks_folder}, beside images, found no such folder; put them there", path=folder
        )
    masks, images = _by_stem(masks_folder), _by_stem(folder / "images")
    if not images:
        raise InvalidInputError(f"{folder / 'images'} must hold pictures, found none; put some there", path=folder)
    missing = [path for stem, path in images.items() if stem not in masks]
    if missing:
        raise InvalidInputError(
            f"every picture must have a mask, {len(missing)} of {len(images)} have none, first {missing[0]}; put "
            f"{missing[0].stem}.png into {masks_folder}, or take the picture away",
            path=missing[0],
        )
    if unused := sorted(masks.keys() - images.keys()):
        log.warning("%d masks in %s belong to no picture, first %s", len(unused), masks_folder, unused[0])
    return tuple(MaskedPicture(path, masks[stem]) for stem, path in images.items())


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by their names without suffix, in order."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # Some systems leave files such as ._a.png beside the pictures.
        if path.name.startswith(".") or path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file():
            continue
        if (other := found.setdefault(path.stem, path)) is not path:
            raise InvalidInputError(
                f"pictures and masks belong together by their names without suffix, found {other.name} and "
                f"{path.name} in {folder}; rename one of them, and its mask",
                path=path,
            )
    return found


def _voc_list(folder: Path, part: str) -> tuple[MaskedPicture, ...]:
    """Return the pictures that ImageSets/Segmentation names for one part; none where there is no list for "val"."""
    path = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
    if not path.is_file():
        if part == "train":
            raise InvalidInputError(
                f"Pascal VOC lists its pictures in {path}, found no such file; write their names into it, one a line",
                path=path,
            )
        return ()
    pairs = []
    for name in dict.fromkeys(_read_list(path)):
        pair = MaskedPicture(folder / "JPEGImages" / f"{name}.jpg", folder / VOC_MASKS / f"{name}.png")
        for file in (pair.image, pair.mask):
            if not file.is_file():
                raise InvalidInputError(f"{path} names {name}, but there is no {file}; put it there", path=file)
        pairs.append(pair)
    if not pairs:
        raise InvalidInputError(f"{path} must name pictures, one a line, found none; add some", path=path)
    return tuple(pairs)


def _read_list(path: Path) -> list[str]:
    """Return the names in a list of Pascal VOC; each stays below the folders that it is looked for in."""
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(
            f"{path} must be UTF-8 text of picture names, one a line: {exc}; save it so", path=path
        ) from exc
    for name in names:
        try:
            safe_relative_path(name)
        except InvalidInputError as exc:
            raise InvalidInputError(
                f"{path} must name pictures in JPEGImages/ without suffix, got {name!r}; correct that line", path=path
            ) from exc
    return names
