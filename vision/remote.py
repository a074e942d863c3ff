"""Published weights by name: where they are on the internet, where they are in the cache, and how they get there.

Three places need them: backbones that start from ImageNet weights, torchvision's COCO detectors and its segmenters.
Nothing is downloaded unless ``pull`` is called (``stride32 models pull NAME``); every other function looks only at the
cache. torchvision and timm are loaded when an address is asked for: they own the addresses, and the first digits of the
sha256 are part of their file names.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vision import cache
from vision.download import MEGABYTE, Download, Report, fetch, ignore_report
from vision.errors import ConfigError, ModelError, WeightsError, closest_hint
from vision.store import file_sha256

log = logging.getLogger(__name__)

MIRROR_VARIABLE = "STRIDE32_WEIGHTS_URL"
MAX_BYTES = 2048 * MEGABYTE
DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|safetensors)$")

# name -> (kind, torchvision's builder, its weights). The plain name is torchvision's best, "-v1" the older recipe, from
# which others' published results start.
TORCHVISION = {
    "alexnet": ("classifier", "alexnet", "IMAGENET1K_V1"),
    "vgg11": ("classifier", "vgg11", "IMAGENET1K_V1"),
    "vgg11_bn": ("classifier", "vgg11_bn", "IMAGENET1K_V1"),
    "vgg16": ("classifier", "vgg16", "IMAGENET1K_V1"),
    "vgg16_bn": ("classifier", "vgg16_bn", "IMAGENET1K_V1"),
    "googlenet": ("classifier", "googlenet", "IMAGENET1K_V1"),
    "resnet18": ("classifier", "resnet18", "IMAGENET1K_V1"),
    "resnet34": ("classifier", "resnet34", "IMAGENET1K_V1"),
    "resnet50": ("classifier", "resnet50", "IMAGENET1K_V2"),
    "resnet50-v1": ("classifier", "resnet50", "IMAGENET1K_V1"),
    "resnet101": ("classifier", "resnet101", "IMAGENET1K_V2"),
    "resnet101-v1": ("classifier", "resnet101", "IMAGENET1K_V1"),
    "mobilenet_v2": ("classifier", "mobilenet_v2", "IMAGENET1K_V2"),
    "mobilenet_v2-v1": ("classifier", "mobilenet_v2", "IMAGENET1K_V1"),
    "mobilenet_v3_small": ("classifier", "mobilenet_v3_small", "IMAGENET1K_V1"),
    "mobilenet_v3_large": ("classifier", "mobilenet_v3_large", "IMAGENET1K_V2"),
    "mobilenet_v3_large-v1": ("classifier", "mobilenet_v3_large", "IMAGENET1K_V1"),
    "fasterrcnn_resnet50_fpn_v2": ("detector", "fasterrcnn_resnet50_fpn_v2", "COCO_V1"),
    "retinanet_resnet50_fpn_v2": ("detector", "retinanet_resnet50_fpn_v2", "COCO_V1"),
    "fcos_resnet50_fpn": ("detector", "fcos_resnet50_fpn", "COCO_V1"),
    "ssd300_vgg16": ("detector", "ssd300_vgg16", "COCO_V1"),
    "ssdlite320_mobilenet_v3_large": ("detector", "ssdlite320_mobilenet_v3_large", "COCO_V1"),
    "fcn_resnet50": ("segmenter", "fcn_resnet50", "COCO_WITH_VOC_LABELS_V1"),
    "fcn_resnet101": ("segmenter", "fcn_resnet101", "COCO_WITH_VOC_LABELS_V1"),
    "deeplabv3_resnet50": ("segmenter", "deeplabv3_resnet50", "COCO_WITH_VOC_LABELS_V1"),
    "deeplabv3_resnet101": ("segmenter", "deeplabv3_resnet101", "COCO_WITH_VOC_LABELS_V1"),
    "deeplabv3_mobilenet_v3_large": ("segmenter", "deeplabv3_mobilenet_v3_large", "COCO_WITH_VOC_LABELS_V1"),
    "lraspp_mobilenet_v3_large": ("segmenter", "lraspp_mobilenet_v3_large", "COCO_WITH_VOC_LABELS_V1"),
}
TIMM = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
NAMES = (*TIMM, *TORCHVISION)

IMAGENET_TERMS = "trained on ImageNet-1k (research and education only)"
COCO_TERMS = "trained on COCO (pictures under their authors' Flickr licences), started from ImageNet-1k"


@dataclass(frozen=True, slots=True)
class RemoteWeights:
    """One published file.

    Attributes:
        name: ours. kind: "classifier", "detector" or "segmenter".
        url: the publisher's address. sha256: its first digits, as in the file name.
        size_bytes: length to within a few kilobytes; None when the publisher does not say.
        quality: the publisher's figure, in words; "" when he does not say.
        licence, terms: what the publisher says of the file, and what the data adds to it.
    """

    name: str
    kind: str
    url: str
    sha256: str
    size_bytes: int | None
    quality: str
    licence: str
    terms: str

    @property
    def file_name(self) -> str:
        """The last part of the address, under which the file lies in the cache and on a mirror."""
        return self.url.rpartition("/")[2]


def known_weights(name: str) -> RemoteWeights:
    """Return the published file of that name; raises ModelError with the known names and the closest one."""
    if name in TORCHVISION:
        return _from_torchvision(name)
    if name in TIMM:
        return _from_timm(name)
    raise ModelError(
        f"expected the name of published weights, got {name!r}{closest_hint(name, NAMES)}; known: {', '.join(NAMES)} "
        "(stride32 models list --remote)",
        expected=f"one of {', '.join(NAMES)}",
        actual=name,
    )


def weights_folder() -> Path:
    """Return the folder of pulled files; not made here."""
    return cache.cache_folder("weights")


def cached(name: str) -> Path | None:
    """Return the file of these weights in the cache, or None when it was not pulled; see ``require`` for a checked one.

    Raises:
        ModelError: no weights have that name.
    """
    path = weights_folder() / known_weights(name).file_name
    return path if path.is_file() else None


def require(name: str) -> Path:
    """Return the file of these weights in the cache after comparing its digest.

    Raises:
        ModelError: no weights have that name, or they were not pulled; says how.
        WeightsError: the file is damaged; both digests are in the message.
    """
    known = known_weights(name)
    path = weights_folder() / known.file_name
    if not path.is_file():
        raise ModelError(
            f"weights of {name} must be in the cache, found no {path}; run: stride32 models pull {name}", path=path
        )
    _check_digest(known, path, f"run: stride32 models pull {name} --force")
    return path


def pull(name: str, *, source: Path | None = None, force: bool = False, report: Report = ignore_report) -> Path:
    """Return the file of these weights in the cache, downloading it when it is not there; checked by its sha256.

    A download that was cut off continues where it ended. Processes that pull the same file wait for one another, and
    the file appears under its name only when it is whole and right.

    Args:
        name: one of ``NAMES``.
        source: a file to copy into the cache in place of a download, for machines without the internet.
        force: replace what is in the cache.
        report: called with (bytes so far, bytes in all or None) as they come.

    Raises:
        ConfigError: STRIDE32_WEIGHTS_URL is no http address.
        ModelError: no weights have that name, or they could not be downloaded.
        WeightsError: the file has another sha256 than published; both are in the message.
    """
    known = known_weights(name)
    target = weights_folder() / known.file_name
    # Before the lock as well: a cache that others fill may not be ours to write.
    if not force and _is_intact(known, target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(target):
            if not force and _is_intact(known, target):
                return target
            if source is not None:
                _copy(known, source, target)
            else:
                _download(known, target, report)
    except OSError as exc:
        raise ModelError(
            f"{target} cannot be written: {exc.strerror or exc}; make room or set {cache.CACHE_VARIABLE} to another "
            "folder",
            path=target,
        ) from exc
    return target


def address(known: RemoteWeights) -> str:
    """Return where a file is downloaded from: the publisher, or the mirror that STRIDE32_WEIGHTS_URL names."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").rstrip("/")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise ConfigError(
            f"{MIRROR_VARIABLE} must begin with https:// or http://, got {mirror!r}; for a file on this machine use "
            "stride32 models pull NAME --from FILE"
        )
    return f"{mirror}/{known.file_name}" if mirror else known.url


def _download(known: RemoteWeights, target: Path, report: Report) -> None:
    """Fetch into ``target``; a continued download with a wrong digest is begun anew once."""
    limit = MAX_BYTES if known.size_bytes is None else known.size_bytes + MEGABYTE
    url, part = address(known), target.with_name(f"{target.name}.part")
    download = fetch(url, part, max_bytes=limit, report=report)
    if download.resumed and not file_sha256(part).startswith(known.sha256):
        log.warning("%s: the two halves of the download do not fit; downloading it again", known.file_name)
        part.unlink()
        download = fetch(url, part, max_bytes=limit, report=report)
    _keep(known, part, target, _origin(download))


@contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Keep other processes and threads from making the same file meanwhile.

    The lock is the operating system's: it ends with its holder, however that ends.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        log.warning("another process is getting %s; waiting for it", target.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _copy(known: RemoteWeights, source: Path, target: Path) -> None:
    """Copy a file of this machine into the cache."""
    if not source.is_file():
        raise ModelError(f"--from must name a file, found none at {source}; check the path", path=source)
    part = target.with_name(f"{target.name}.copy.part")
    shutil.copyfile(source, part)
    _keep(known, part, target, f"{source}; weights of your own need no pull: give their path where a name is asked for")


def _keep(known: RemoteWeights, part: Path, target: Path, origin: str) -> None:
    """Give a complete file its name when its digest is right, else remove it."""
    try:
        _check_digest(known, part, f"it came from {origin}")
    except WeightsError:
        part.unlink()
        raise
    part.replace(target)


def _origin(download: Download) -> str:
    """Return where a download came from, with a hint when the server sent a page in place of a file."""
    page = download.content_type.startswith("text/")
    return f"{download.url}{', as a page of text: a proxy or a login in between?' if page else '; try again later'}"


def _is_intact(known: RemoteWeights, path: Path) -> bool:
    if not path.is_file():
        return False
    if file_sha256(path).startswith(known.sha256):
        return True
    log.warning("%s in the cache is damaged; getting it again", path.name)
    return False


def _check_digest(known: RemoteWeights, path: Path, advice: str) -> None:
    actual = file_sha256(path)
    if not actual.startswith(known.sha256):
        raise WeightsError(
            f"{known.file_name}: expected a sha256 that begins with {known.sha256}, got {actual}; {advice}",
            expected=known.sha256,
            actual=actual,
            path=path,
        )


def _from_torchvision(name: str) -> RemoteWeights:
    from torchvision.models import get_model_weights

    kind, builder, member = TORCHVISION[name]
    weights = get_model_weights(builder)[member]
    return RemoteWeights(
        name=name,
        kind=kind,
        url=weights.url,
        sha256=_digest_in(weights.url),
        size_bytes=round(weights.meta["_file_size"] * MEGABYTE),  # torchvision's unit is 2**20 bytes
        quality=_quality(weights.meta.get("_metrics", {})),
        licence="BSD-3-Clause (torchvision)",
        terms=IMAGENET_TERMS if kind == "classifier" else COCO_TERMS,
    )


def _from_timm(name: str) -> RemoteWeights:
    import timm

    published = timm.get_pretrained_cfg(name)
    return RemoteWeights(
        name=name,
        kind="classifier",
        url=published.url,
        sha256=_digest_in(published.url),
        size_bytes=None,
        quality="",
        licence=f"{published.license} (TensorFlow, by way of timm)",
        terms=IMAGENET_TERMS,
    )


def _digest_in(url: str) -> str:
    found = DIGEST_IN_NAME.search(url)
    if found is None:
        raise ModelError(f"a published file must have its sha256 in its name, got {url}; update torchvision or timm")
    return found[1]


def _quality(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return the first figure of torchvision's record of measurements, such as "ImageNet-1K acc@1 80.858"."""
    for dataset, figures in metrics.items():
        for figure, value in figures.items():
            return f"{dataset} {figure} {value:g}"
    return ""
