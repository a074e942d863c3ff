"""The data sets of a classifier: pictures cut, mirrored and recoloured anew in each epoch, or as at inference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, from_numpy
from torch.utils.data import Dataset

from vision.classification.input import InputSpec, input_image, region_input
from vision.training.augment import jitter_colour
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.datasets.label_checks import LabelledPicture
from vision.training.datasets.pictures import load_rgb
from vision.types import FloatArray, ImageArray

# Width / height of a random cut, relative to that of the whole (Szegedy 2015, section 6).
ASPECT_RANGE = (3 / 4, 4 / 3)


class TrainingPictures(Dataset[tuple[Tensor, Tensor]]):
    """Augmented pictures: item ``epoch * len + index`` is float32 [3, H, W] and its target float32 [K].

    The item number carries the epoch (EpochSampler), so a sample's augmentation depends on nothing but seed, epoch and
    index, and a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        pictures: Sequence[LabelledPicture],
        targets: FloatArray,
        spec: InputSpec,
        config: ClassifierTrainingConfig,
    ) -> None:
        self.pictures = list(pictures)
        self.targets = targets
        self.spec = spec
        self.config = config

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        epoch, index = divmod(item, len(self.pictures))
        rng = np.random.default_rng((self.config.seed, epoch, index))
        region = augment(rng, load_rgb(self.pictures[index].path), self.spec, self.config)
        return from_numpy(region_input(region, self.spec)), from_numpy(self.targets[index])


class PlainPictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures as inference sees them: item ``index`` is float32 [3, H, W] and its target float32 [K]."""

    def __init__(self, pictures: Sequence[LabelledPicture], targets: FloatArray, spec: InputSpec) -> None:
        self.pictures = list(pictures)
        self.targets = targets
        self.spec = spec

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = load_rgb(self.pictures[index].path)
        return from_numpy(input_image(image, self.spec)), from_numpy(self.targets[index])


def augment(
    rng: np.random.Generator, image: ImageArray, spec: InputSpec, config: ClassifierTrainingConfig
) -> ImageArray:
    """Return a random part of the picture uint8 [h, w, 3], mirrored or not, in changed colours.

    The part is about as wide for its height as what inference shows: the input for resize=crop, else the picture.
    """
    height, width = image.shape[:2]
    aspect = spec.size_hw[1] / spec.size_hw[0] if spec.resize == "crop" else width / height
    rows, columns = draw_part(rng, (height, width), aspect=aspect, share_range=config.crop_range)
    part = image[rows, columns]
    if rng.uniform() < 0.5 and config.flip:
        part = part[:, ::-1]
    if not config.colour:
        return part
    return jitter_colour(rng, np.ascontiguousarray(part), strength=config.colour)


def draw_part(
    rng: np.random.Generator,
    size_hw: tuple[int, int],
    *,
    aspect: float,
    share_range: tuple[float, float],
) -> tuple[slice, slice]:
    """Return the rows and columns of a random part of a picture.

    Args:
        rng: draws four numbers, whatever comes of them.
        size_hw: height and width of the picture.
        aspect: width / height of the part, before a random change by a factor of ASPECT_RANGE; a share of 1 changes
            none, so that a range of (1, 1) gives what inference shows.
        share_range: smallest and largest area, relative to the largest part with that aspect.
    """
    share = rng.uniform(*share_range)
    wider = math.exp(rng.uniform(*np.log(ASPECT_RANGE)))
    # As much room as the cut leaves may go into another aspect.
    wider = float(np.clip(wider, share, 1 / share))
    largest = min(size_hw[0], size_hw[1] / aspect)
    height = min(size_hw[0], max(1, round(largest * math.sqrt(share / wider))))
    width = min(size_hw[1], max(1, round(largest * aspect * math.sqrt(share * wider))))
    top = int(rng.uniform() * (size_hw[0] - height + 1))
    left = int(rng.uniform() * (size_hw[1] - width + 1))
    return slice(top, top + height), slice(left, left + width)
