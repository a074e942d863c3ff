"""Crops of people for the embedder: the folder layout, the held-out people, batches of P x K.

Layout of the folder (Market-1501): one subfolder a person, whose name is the id; file names hold the camera as ``_c3``.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor, from_numpy
from torch.utils.data import Dataset, Sampler

from vision.errors import InvalidInputError
from vision.runtime.preprocess import Normalization, normalize, resize
from vision.training.augment_crops import DEFAULT, augment_crop
from vision.training.embedder_config import CropAugmentation
from vision.types import FloatArray, ImageArray, IntArray

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
CAMERA_PATTERN = re.compile(r"_c(\d+)")


@dataclass(frozen=True, slots=True)
class CropFile:
    """One crop on disk: who is on it and which camera saw it."""

    path: Path
    person: str
    camera: int


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """Decoded crops.

    Attributes:
        images: N pictures, uint8 RGB. paths: their files.
        person_ids: int64 [N], index into people. camera_ids: int64 [N].
        targets: float32 [N, D], what teachers make of each crop; None without teachers.
    """

    images: list[ImageArray]
    person_ids: IntArray
    camera_ids: IntArray
    people: tuple[str, ...]
    paths: tuple[Path, ...] = ()
    targets: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.images)


def read_crop_folder(folder: Path) -> list[CropFile]:
    """Return the crops below ``folder`` sorted by person and name; other files are reported in the log and skipped.

    Raises:
        InvalidInputError: the folder is missing or holds no crop.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"crops must lie in a folder of person folders, found no folder {folder}", path=folder)
    found = []
    for person in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(path for path in person.iterdir() if path.is_file()):
            camera = CAMERA_PATTERN.search(path.stem)
            if path.suffix.lower() not in PICTURE_SUFFIXES or camera is None:
                log.warning("skipped %s: expected a picture named ..._c<camera>...", path)
                continue
            found.append(CropFile(path, person.name, int(camera.group(1))))
    if not found:
        raise InvalidInputError(
            f"{folder} must hold one subfolder a person with pictures named like 0002_c1s1_000451_03.jpg, found none; "
            "give the folder above the person folders",
            path=folder,
        )
    return found


def split_people(people: Sequence[str], holdout: int, *, exclude: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids to train on and the ``holdout`` last ones by id; training and evaluation both ask here.

    The ``exclude`` very last ids are in neither: a test set that no choice may see, with others held out before it.

    >>> split_people(["0007", "0002", "0010", "0002"], 1)
    (('0002', '0007'), ('0010',))
    >>> split_people(["0007", "0002", "0010", "0012"], 1, exclude=1)
    (('0002', '0007'), ('0010',))

    Raises:
        InvalidInputError: fewer than two people are left to train on.
    """
    everybody = sorted(set(people))
    ordered = everybody[: len(everybody) - exclude]
    if len(ordered) < holdout + 2:
        raise InvalidInputError(
            f"holding out {holdout} people and excluding {exclude} needs at least {holdout + exclude + 2}, got "
            f"{len(everybody)}; lower holdout_people"
        )
    return tuple(ordered[: len(ordered) - holdout]), tuple(ordered[len(ordered) - holdout :])


def keep_cameras(files: Sequence[CropFile], cameras: Sequence[int], *, others: bool = False) -> list[CropFile]:
    """Return the crops of some cameras, or with ``others`` those of all the rest; without cameras all crops.

    Raises:
        InvalidInputError: no crop is left, or a camera took none.
    """
    known = sorted({file.camera for file in files})
    if unknown := sorted(set(cameras) - set(known)):
        raise InvalidInputError(f"cameras must be among {known}, got {unknown}; the file names tell them as _c<number>")
    if not cameras:
        return list(files)
    kept = [file for file in files if (file.camera in cameras) != others]
    if not kept:
        raise InvalidInputError(f"cameras {sorted(cameras)} are all there are, so none is left; name fewer")
    return kept


def load_crops(files: Sequence[CropFile], people: Sequence[str], size_hw: tuple[int, int] | None = None) -> CropSet:
    """Return the decoded crops of ``people``, stretched to ``size_hw`` if given; unreadable ones are skipped.

    All are held in memory: ten thousand crops of 128 x 64 are 250 MB, and decoding them anew each epoch would take time
    from a training that may have one core.
    """
    index = {person: i for i, person in enumerate(people)}
    images, person_ids, camera_ids, paths = [], [], [], []
    for file in files:
        if file.person not in index:
            continue
        image = cv2.imread(str(file.path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            log.warning("skipped %s: the picture cannot be decoded", file.path)
            continue
        images.append(np.asarray(image if size_hw is None else resize(image, size_hw), np.uint8))
        person_ids.append(index[file.person])
        camera_ids.append(file.camera)
        paths.append(file.path)
    if not images:
        raise InvalidInputError(f"none of the crops of {len(index)} people can be read; check the folder")
    return CropSet(
        images, np.asarray(person_ids, np.int64), np.asarray(camera_ids, np.int64), tuple(people), tuple(paths)
    )


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The crops of one batch and the seed of their augmentation, which depends on run seed, epoch and batch alone."""

    indices: tuple[int, ...]
    seed: tuple[int, int, int]


class PeopleSampler(Sampler[BatchPlan]):
    """Plans batches of P people x K crops (Hermans 2017); an epoch shows as many crops as the set has.

    People come in shuffled rounds, so each is seen equally often however many crops there are of them. Someone with
    fewer than K crops is shown some of them twice. Lightning calls ``set_epoch`` before each epoch. Among several
    processes each takes its own share of the batches.
    """

    def __init__(self, person_ids: IntArray, *, people: int, crops: int, seed: int) -> None:
        self.rows = [np.flatnonzero(person_ids == person) for person in np.unique(person_ids)]
        if len(self.rows) < people:
            raise InvalidInputError(
                f"batches of {people} people need as many in the data, got {len(self.rows)}; lower people"
            )
        self.people = people
        self.crops = crops
        self.seed = seed
        self.epoch = 0
        self.batches = max(1, len(person_ids) // (people * crops))
        self._skipped = (0, 0)
        self._rank, self._world = 0, 1

    def __len__(self) -> int:
        return max(1, self.batches // self._world)

    def __iter__(self) -> Iterator[BatchPlan]:
        epoch, entries = self._skipped
        first = entries if epoch == self.epoch else 0
        share = itertools.islice(self._plans(), self._rank, len(self) * self._world, self._world)
        return itertools.islice(share, first, None)

    def _plans(self) -> Iterator[BatchPlan]:
        """Yield the batches of the epoch without end; what is drawn for one depends on those before it."""
        rng = np.random.default_rng((self.seed, self.epoch))
        for batch, people in enumerate(self._rounds(rng)):
            drawn = [rng.choice(self.rows[i], self.crops, replace=len(self.rows[i]) < self.crops) for i in people]
            yield BatchPlan(tuple(np.concatenate(drawn).tolist()), (self.seed, self.epoch, batch))

    def _rounds(self, rng: np.random.Generator) -> Iterator[IntArray]:
        """Yield P distinct people at a time without end; the few left over in a round wait for the next."""
        while True:
            order = rng.permutation(len(self.rows))
            for start in range(0, len(order) - self.people + 1, self.people):
                yield order[start : start + self.people]

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of ``epoch``."""
        self.epoch = epoch

    def skip(self, epoch: int, entries: int) -> None:
        """Leave out the first ``entries`` batches of this process when ``epoch`` comes."""
        self._skipped = (epoch, entries)

    def shard(self, rank: int, world: int) -> None:
        """Yield every ``world``-th batch, beginning at ``rank``."""
        self._rank, self._world = rank, world


class CropDataset(Dataset[tuple[Tensor, ...]]):
    """Augmented batches: item ``plan`` is float32 [P*K, 3, H, W], person ids int64 [P*K], and targets if there are."""

    def __init__(self, crops: CropSet, normalization: Normalization, augmentation: CropAugmentation = DEFAULT) -> None:
        self.crops = crops
        self.normalization = normalization
        self.augmentation = augmentation
        self.fill = np.asarray(normalization.mean, np.float32).round().astype(np.uint8)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, plan: BatchPlan) -> tuple[Tensor, ...]:
        rng = np.random.default_rng(plan.seed)
        augmented = [augment_crop(rng, self.crops.images[i], self.fill, self.augmentation) for i in plan.indices]
        batch = np.stack([normalize(image, self.normalization) for image in augmented])
        rows = list(plan.indices)
        known = (self.crops.person_ids,) if self.crops.targets is None else (self.crops.person_ids, self.crops.targets)
        return (from_numpy(batch), *(from_numpy(column[rows]) for column in known))
