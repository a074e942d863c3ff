"""Detection data in COCO JSON: from the file to annotations, faulty rows reported and left out."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision.errors import InvalidInputError
from vision.training.datasets.annotations import BoxRow, DetectionAnnotations, PictureAnnotations
from vision.training.datasets.findings import Finding

Row = Mapping[str, Any]
_IMAGE_FIELDS = frozenset({"id", "file_name", "width", "height"})
_OBJECT_FIELDS = frozenset({"id", "image_id", "category_id", "bbox", "iscrowd", "difficult", "truncated"})
_IDS_SHOWN = 5


def read_coco_annotations(path: Path) -> DetectionAnnotations:
    """Return what a COCO file annotates; class names are in the order of their category ids, whatever gaps these have.

    Pictures are looked for beside the file, as ``file_name`` says, and then in the usual places around it
    (``images/``, ``../train2017/`` for ``instances_train2017.json``).

    Raises:
        InvalidInputError: the file is not COCO JSON, or no row of a list can be used.
    """
    document = _read_json(path)
    categories = _read_categories(document["categories"], path)
    findings: list[Finding] = []
    image_rows = list(_usable_images(document["images"], path, findings))
    names = list(dict.fromkeys(categories[key] for key in sorted(categories)))
    label_of = {key: names.index(name) for key, name in categories.items()}
    objects, unusable = _read_objects(document["annotations"], path, image_rows, label_of, findings)
    root = _pictures_root(path, [str(row["file_name"]) for _, row in image_rows])
    pictures = tuple(
        PictureAnnotations(
            path=root / str(row["file_name"]),
            name=str(row["file_name"]).replace("\\", "/"),
            image_id=image_id,
            source=path,
            declared_wh=_declared_size(row),
            rows=tuple(objects.get(image_id, ())),
            unusable=unusable[image_id],
            extra={key: value for key, value in row.items() if key not in _IMAGE_FIELDS},
        )
        for image_id, row in image_rows
    )
    ids = {name: key for key, name in sorted(categories.items(), reverse=True)}
    extra: dict[str, Any] = {key: document[key] for key in ("info", "licenses") if key in document}
    return DetectionAnnotations(
        "coco", path, path, tuple(names), pictures, tuple(findings), tuple(ids[name] for name in names), extra
    )


def is_coco_document(path: Path) -> bool:
    """Return whether the JSON file has COCO's three lists; reads the whole file."""
    try:
        _read_json(path)
    except InvalidInputError:
        return False
    return True


def _read_json(path: Path) -> dict[str, Any]:
    """Return the parsed file after checking that it has COCO's three lists."""
    if not path.is_file():
        raise InvalidInputError(
            f"COCO annotations must be a JSON file, found none at {path}; check the path", path=path
        )
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(
            f"{path.name} must be COCO JSON, cannot parse it: {exc}; export it again", path=path
        ) from exc
    table: dict[str, Any] = document if isinstance(document, dict) else {}
    absent = [key for key in ("images", "annotations", "categories") if not isinstance(table.get(key), list)]
    if absent:
        raise InvalidInputError(
            f"{path.name} must be COCO JSON with images, annotations and categories, lacks {', '.join(absent)}; "
            "give the file of the annotations, not one of results or of settings",
            path=path,
        )
    return table


def _read_categories(rows: Sequence[Any], path: Path) -> dict[int, str]:
    try:
        return {int(row["id"]): str(row["name"]) for row in rows}
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"{path.name} must give each category an id and a name; reading failed at {exc!r}", path=path
        ) from exc


def _usable_images(rows: Sequence[Any], path: Path, findings: list[Finding]) -> Iterator[tuple[int, Row]]:
    """Yield id and row of each image that has both id and file_name; others and repeated ids are reported."""
    seen: set[int] = set()
    for number, row in enumerate(rows, start=1):
        try:
            image_id, name = int(row["id"]), row["file_name"]
            if not (isinstance(name, str) and name):
                raise ValueError(f"file_name {name!r}")
        except (KeyError, TypeError, ValueError) as exc:
            found = f"row {number} of images cannot be read ({exc!r})"
            findings.append(Finding("error", "bad-row", path, found, "give each image an id and a file_name"))
            continue
        if image_id in seen:
            found = f"image id {image_id} stands twice in images ({name})"
            findings.append(Finding("error", "duplicate-id", path, found, "number the images anew; ids are unique"))
            continue
        seen.add(image_id)
        yield image_id, row
    if rows and not seen:
        raise InvalidInputError(f"{path.name} must give each image id and file_name; {findings[0].found}", path=path)


def _read_objects(
    rows: Sequence[Any],
    path: Path,
    images: Sequence[tuple[int, Row]],
    label_of: Mapping[int, int],
    findings: list[Finding],
) -> tuple[dict[int, list[BoxRow]], Counter[int]]:
    """Return the usable objects of each image id, and how many others it has; faults go to ``findings``."""
    objects: dict[int, list[BoxRow]] = {image_id: [] for image_id, _ in images}
    unusable: Counter[int] = Counter()
    strangers: list[str] = []
    unknown: Counter[int] = Counter()
    used = 0
    for number, row in enumerate(rows, start=1):
        try:
            place = f"annotation {row.get('id', f'number {number}')}"
            image_id, category = int(row["image_id"]), int(row["category_id"])
            box = _corners(row["bbox"])
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            found = f"row {number} of annotations cannot be read ({exc!r})"
            fix = "give image_id, category_id and bbox [x, y, width, height], four finite numbers of pixels"
            findings.append(Finding("error", "bad-row", path, found, fix))
            unusable[_image_of(row)] += 1
            continue
        if image_id not in objects:
            strangers.append(f"{place} (image {image_id})")
        elif category not in label_of:
            unknown[category] += 1
            unusable[image_id] += 1
        else:
            used += 1
            objects[image_id].append(_box_row(row, box, label_of[category], place))
    findings += _unknown_categories(unknown, label_of, path)
    if strangers:
        shown = ", ".join(strangers[:_IDS_SHOWN]) + (" and others" if len(strangers) > _IDS_SHOWN else "")
        found = f"{len(strangers)} annotations belong to images that the file does not list: {shown}"
        findings.append(Finding("warning", "no-such-image", path, found, "add the images or remove the annotations"))
    if rows and not used and findings:
        raise InvalidInputError(
            f"{path.name} must give each annotation the image_id of a listed image, a listed category_id and bbox "
            f"[x, y, width, height]; none of {len(rows)} can be used: {findings[-1].found}; {findings[-1].fix}",
            path=path,
        )
    return objects, unusable


def _image_of(row: Any) -> int:
    """Return the image id of a row that cannot be read, -1 when it tells none."""
    image_id = row.get("image_id") if isinstance(row, dict) else None
    return image_id if isinstance(image_id, int) else -1


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in bbox)
    if not all(math.isfinite(value) for value in (x, y, width, height)):
        raise ValueError(f"bbox {list(bbox)}")
    return x, y, x + width, y + height


def _box_row(row: Row, box: tuple[float, float, float, float], label: int, place: str) -> BoxRow:
    return BoxRow(
        box,
        label,
        place,
        crowd=bool(row.get("iscrowd", 0)),
        difficult=bool(row.get("difficult", 0)),
        truncated=bool(row.get("truncated", 0)),
        extra={key: value for key, value in row.items() if key not in _OBJECT_FIELDS} or None,
    )


def _unknown_categories(unknown: Mapping[int, int], known: Mapping[int, int], path: Path) -> Iterator[Finding]:
    """Yield a finding when annotations have category ids that are not listed, the mark of ids counted from 0."""
    if not unknown:
        return
    ids = ", ".join(str(key) for key in sorted(unknown)[:_IDS_SHOWN]) + (" ..." if len(unknown) > _IDS_SHOWN else "")
    listed = f"{min(known)} to {max(known)}" if known else "none"
    found = (
        f"{sum(unknown.values())} annotations have a category_id that categories does not list: {ids}; listed: {listed}"
    )
    fix = "list these categories, or correct the ids of the annotations"
    if min(unknown) == 0 and known and min(known) == 1:
        fix += " (they seem to count from 0, the categories from 1)"
    yield Finding("error", "unknown-category", path, found, fix)


def _declared_size(row: Row) -> tuple[int, int] | None:
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return int(width), int(height)
    return None


def _pictures_root(path: Path, names: Sequence[str]) -> Path:
    """Return the folder that the file names start from: the first of the usual places that has one of them."""
    base, above = path.parent, path.parent.parent
    # COCO's own layout: annotations/instances_train2017.json beside the folder train2017/.
    part = path.stem.partition("_")[2]
    places = [base, base / "images", above, above / "images"]
    places += [folder / part for folder in (above, base, above / "images", base / "images") if part]
    sample = names[:: max(1, len(names) // _IDS_SHOWN)]
    return next((place for place in places if any((place / name).is_file() for name in sample)), base)
