"""Crops of people for the embedder: the folder layout, the held-out people, batches of P x K, augmentation.

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
from vision.types import ImageArray, IntArray

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
CAMERA_PATTERN = re.compile(r"_c(\d+)")

SHIFT_FRACTION = 0.05  # of the crop's sides: detectors place boxes about that badly
ERASE_PROBABILITY, ERASE_AREA, ERASE_ASPECT = 0.5, (0.02, 0.3), (0.3, 3.3)  # Zhong 2017, section 4.2
BRIGHTNESS, CONTRAST, CHANNEL_GAIN = 0.15, 0.15, 0.07


@dataclass(frozen=True, slots=True)
class CropFile:
    """One crop on disk: who is on it and which camera saw it."""

    path: Path
    person: str
    camera: int


@dataclass(frozen=True, slots=True, eq=False)
class CropSet:
    """Decoded crops: images uint8 RGB, person_ids int64 [N] (index into people), camera_ids int64 [N], their files."""

    images: list[ImageArray]
    person_ids: IntArray
    camera_ids: IntArray
    people: tuple[str, ...]
    paths: tuple[Path, ...] = ()

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


def split_people(people: Sequence[str], holdout: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids to train on and the ``holdout`` last ones by id; training and evaluation both ask here.

    >>> split_people(["0007", "0002", "0010", "0002"], 1)
    (('0002', '0007'), ('0010',))
    """
    ordered = sorted(set(people))
    if len(ordered) < holdout + 2:
        raise InvalidInputError(
            f"holding out {holdout} people needs at least {holdout + 2}, got {len(ordered)}; lower holdout_people"
        )
    return tuple(ordered[: len(ordered) - holdout]), tuple(ordered[len(ordered) - holdout :])


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


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Augmented batches: item ``plan`` is float32 [P*K, 3, H, W] and person ids int64 [P*K]."""

    def __init__(self, crops: CropSet, normalization: Normalization) -> None:
        self.crops = crops
        self.normalization = normalization
        self.fill = np.asarray(normalization.mean, np.float32).round().astype(np.uint8)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, plan: BatchPlan) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(plan.seed)
        augmented = [augment_crop(rng, self.crops.images[i], self.fill) for i in plan.indices]
        batch = np.stack([normalize(image, self.normalization) for image in augmented])
        return from_numpy(batch), from_numpy(self.crops.person_ids[list(plan.indices)])


def augment_crop(rng: np.random.Generator, image: ImageArray, fill: ImageArray) -> ImageArray:
    """Return a copy mirrored, shifted, recoloured and partly erased at random; ``fill`` [3] is put where nothing is."""
    image = image[:, ::-1] if rng.uniform() < 0.5 else image
    return erase_rectangle(rng, jitter_colour(rng, shift_crop(rng, image, fill)), fill)


def shift_crop(rng: np.random.Generator, image: ImageArray, fill: ImageArray) -> ImageArray:
    """Return the crop moved by up to SHIFT_FRACTION of its sides, as a badly placed box would show it."""
    height, width = image.shape[:2]
    reach_y, reach_x = round(height * SHIFT_FRACTION), round(width * SHIFT_FRACTION)
    top, left = int(rng.integers(0, 2 * reach_y + 1)), int(rng.integers(0, 2 * reach_x + 1))
    padded = np.empty((height + 2 * reach_y, width + 2 * reach_x, 3), np.uint8)
    padded[:] = fill
    padded[reach_y : reach_y + height, reach_x : reach_x + width] = image
    return padded[top : top + height, left : left + width]


def jitter_colour(rng: np.random.Generator, image: ImageArray) -> ImageArray:
    """Return the crop with another brightness, contrast and white balance, as another camera would show it."""
    gain = (1 + rng.uniform(-CONTRAST, CONTRAST)) * (1 + rng.uniform(-CHANNEL_GAIN, CHANNEL_GAIN, 3))
    shift = 255 * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 127) * gain + 127 + shift, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(image), table[None]), np.uint8)


def erase_rectangle(rng: np.random.Generator, image: ImageArray, fill: ImageArray) -> ImageArray:
    """Return the crop with one random rectangle filled, half of the time: people are often half hidden (Zhong 2017)."""
    if rng.uniform() >= ERASE_PROBABILITY:
        return image
    height, width = image.shape[:2]
    area = rng.uniform(*ERASE_AREA) * height * width
    aspect = float(np.exp(rng.uniform(*np.log(ERASE_ASPECT))))
    tall, wide = min(height, round((area * aspect) ** 0.5)), min(width, round((area / aspect) ** 0.5))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    erased = image.copy()
    erased[top : top + tall, left : left + wide] = fill
    return erased
