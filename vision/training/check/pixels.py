"""The check that decodes every picture: damage, unusual kinds of pixels, and what duplicates are found by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vision.errors import InvalidInputError
from vision.io.image_header import ImageHeader, read_image_header
from vision.io.images import decode_image
from vision.training.check.duplicates import difference_hash, file_digest, thumbnail
from vision.training.check.masks import count_mask_values, mask_finding, may_be_mask
from vision.training.datasets.findings import Finding
from vision.types import ImageArray

_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True, eq=False)
class PictureFacts:
    """What decoding one picture showed.

    Attributes:
        path: the file.
        digest: of its bytes.
        hash_bits, small: difference hash and thumbnail; None if it cannot be decoded.
        findings: its faults.
    """

    path: Path
    digest: bytes
    hash_bits: int | None
    small: ImageArray | None
    findings: tuple[Finding, ...]


def inspect_pictures(
    paths: Sequence[Path], *, threads: int, advance: Callable[[], None] = lambda: None
) -> Iterator[PictureFacts]:
    """Yield the facts of each picture, in order; ``threads`` decode at a time, outside the interpreter's lock.

    Args:
        paths: files that exist.
        threads: number of decoding threads, >= 1.
        advance: called after each picture, from the caller's thread.
    """
    with ThreadPoolExecutor(threads) as pool:
        # Handed out in portions: a map over all would keep the decoded facts of a whole set waiting.
        rest = iter(paths)
        while portion := list(islice(rest, _IN_FLIGHT)):
            for facts in pool.map(inspect_picture, portion):
                advance()
                yield facts


def inspect_picture(path: Path) -> PictureFacts:
    """Return the facts of one picture after decoding it whole."""
    digest = file_digest(path)
    try:
        header = read_image_header(path)
        image = decode_image(path.read_bytes(), source=str(path))
    except (OSError, InvalidInputError) as exc:
        fix = "replace it, or remove its annotations"
        found = f"the picture cannot be decoded: {exc}"
        return PictureFacts(path, digest, None, None, (Finding("error", "corrupt-picture", path, found, fix),))
    findings = tuple(_check_kind(path, header))
    return PictureFacts(path, digest, difference_hash(image), thumbnail(image), findings)


def _check_kind(path: Path, header: ImageHeader) -> Iterator[Finding]:
    """Yield what is unusual about the pixels."""
    mode = header.mode
    if may_be_mask(header) and (values := count_mask_values(path)):
        yield mask_finding(path, values)
    elif mode in ("L", "1"):
        yield Finding("note", "grey-picture", path, "the picture is grey", "nothing to do: it becomes three channels")
    elif mode.startswith("I") or mode == "F":
        found, fix = f"the picture has 16 bits a channel ({mode})", "convert it to 8 bits in the way you want"
        yield Finding("warning", "16-bit-picture", path, found, f"only the high byte is used; {fix}")
    elif mode in ("LA", "PA", "RGBA", "RGBa"):
        found = "the picture has transparency, which is laid on white"
        yield Finding("warning", "alpha-picture", path, found, "store it without alpha if white is wrong")
    elif mode not in ("RGB", "P"):
        found, fix = f"the picture has the colour mode {mode}", "store it as RGB"
        yield Finding("warning", "colour-mode", path, found, fix)
    if header.frames > 1:
        found = f"the file holds {header.frames} pictures; the first is used"
        yield Finding("warning", "several-pictures", path, found, "store each picture in a file of its own")
