"""SOURCE of a batch job to its items: sorted, each once, and the same on every machine. Nothing is decoded here."""

from __future__ import annotations

import glob
import logging
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision.batch.braces import expand_braces, has_braces
from vision.batch.columns import read_items
from vision.batch.config import BatchConfig
from vision.batch.dividing import divide_videos
from vision.batch.filesystems import check_store, is_url, local_path, locate
from vision.batch.gathering import Gathering
from vision.batch.items import Item
from vision.batch.local_listing import FoundFile, absolute, find_file, fixed_folder, match_files, walk_folder
from vision.batch.path_table import is_list, read_paths
from vision.batch.remote_listing import find_remote, list_remote, open_remote
from vision.batch.report_text import shown_notes
from vision.batch.sorting import shorten_names, sort_items
from vision.batch.tar_index import is_compressed_tar, is_tar
from vision.errors import InvalidInputError
from vision.io.container import VIDEO_SUFFIXES, is_stream_address, mask_credentials
from vision.io.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from vision.batch.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The items of a job in order.

    Attributes:
        table: an Arrow table, one row an item (vision/batch/columns.py).
        base: what makes an address of a name when put before it.
        duplicates: entries that were left out because an earlier one had the same address.
        notes: lines about what was left out or is damaged; the first of them are in the log, too.
    """

    table: Any
    base: str
    duplicates: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def items(self, start: int = 0, stop: int | None = None) -> list[Item]:
        """Return the items [start, stop)."""
        rows = self.table.slice(start, None if stop is None else stop - start)
        return list(read_items(rows, self.base, start))


def list_inputs(source: str, config: BatchConfig, *, column: str = "path", known: Manifest | None = None) -> Inputs:
    """Return the items that SOURCE stands for, sorted by name.

    Args:
        source: a folder, glob, picture, video, .tar, list (.txt, .csv, .tsv, .parquet), or an fsspec URL of any of
            these; names in braces ({000..099}) are expanded.
        config: of the job: its task says what is taken, and ``video_chunk`` how local videos are divided.
        column: with paths, of a CSV or Parquet list.
        known: of an earlier run with the same ``video_chunk``: its videos that have not changed are not read again.

    Raises:
        InvalidInputError: there is nothing of that name, or nothing in it that the task can take.
        MediaError: a store gives no answer.
        MissingDependencyError, ConfigError: the package of the store is not installed, or it lacks settings.
    """
    source = local_path(source)
    videos_only = config.task == "track"
    if is_url(source):
        _refuse_streams(source)
        found, folder = _from_store(source, column, videos_only=videos_only)
    else:
        found, folder = _from_disk(source, column, videos_only=videos_only)
    table = found.finish()
    if table.num_rows == found.n_damaged:
        raise _nothing_error(source, found, videos_only=videos_only)
    table, base = (table, folder) if found.base else shorten_names(table, found.low, found.high, folder)
    table, duplicates = sort_items(table, base)
    if duplicates:
        found.note(f"{duplicates} entries name a file for the second time and are left out")
    if config.video_chunk and not videos_only:
        table = divide_videos(table, base, config.video_chunk, note=found.note, known=known)
    for line in shown_notes(found.notes):
        logger.warning("%s", line)
    return Inputs(table, base, duplicates, tuple(found.notes))


def _from_disk(source: str, column: str, *, videos_only: bool) -> tuple[Gathering, str]:
    """Return what a local SOURCE holds, and the folder that names start from."""
    # An empty name would be the current directory, and is most likely an unset shell variable.
    path = absolute(source) if source else ""
    if source and os.path.isdir(path):  # noqa: PTH112
        folder = path.rstrip("/") + "/"
        found = Gathering(folder, videos_only=videos_only)
        for file in walk_folder(folder, _is_ours, found.note):
            found.add(file, is_named=False)
        return found, folder
    found = Gathering(videos_only=videos_only)
    if source and os.path.lexists(path):
        if is_list(path):
            with _open_local(path) as file:
                return _from_list(read_paths(file, path, column), path, found)
        found.add(find_file(path) or FoundFile(path), is_named=True)
        return found, posixpath.dirname(path).rstrip("/") + "/"
    if not glob.has_magic(source) and not has_braces(source):
        raise InvalidInputError(
            "SOURCE must be a folder, glob, picture, video, .tar, list (.txt, .csv, .parquet) or an address such as "
            f"s3://bucket/prefix, found nothing at {source or 'an empty name'}; check the path",
            expected="an existing input",
            actual="nothing of that name",
            path=path,
        )
    for name in expand_braces(path):
        if glob.has_magic(name):
            for each in match_files(name):
                found.add(each, is_named=is_compressed_tar(each.name))
        else:
            found.add(find_file(name) or FoundFile(name), is_named=True)
    return found, fixed_folder(path)


def _from_store(source: str, column: str, *, videos_only: bool) -> tuple[Gathering, str]:
    """Return what a SOURCE in an object store holds, and the prefix that names start from."""
    check_store(source)
    url = source.rstrip("/")
    folder = posixpath.dirname(url) + "/"
    found = Gathering(videos_only=videos_only)
    if has_braces(url):
        for name in expand_braces(url):
            for file in list_remote(name) if glob.has_magic(name) else [FoundFile(name)]:
                found.add(file, is_named=True)
        return found, fixed_folder(url)
    single = None if source.endswith("/") else find_remote(url)
    if single is not None and is_list(url):
        with open_remote(url) as stream:
            return _from_list(read_paths(stream, url, column), url, found)
    if single is not None:
        found.add(single, is_named=True)
        return found, folder
    for file in list_remote(url):
        found.add(file, is_named=is_compressed_tar(file.name) and glob.has_magic(url))
    return found, fixed_folder(url) if glob.has_magic(url) else url + "/"


def _from_list(entries: Iterator[str], path: str, found: Gathering) -> tuple[Gathering, str]:
    """Return what a list names, and its folder; remote entries are not asked for, local ones are looked at."""
    folder = posixpath.dirname(path).rstrip("/") + "/"
    for entry in entries:
        text = local_path(entry)
        if is_url(text):
            check_store(text)
            found.add(FoundFile(text), is_named=True)
        elif not is_url(path):
            name = absolute(folder + text if not text.startswith("/") else text)
            found.add(find_file(name) or FoundFile(name), is_named=True)
        elif text.startswith("/") or text != entry:
            raise InvalidInputError(
                f"{mask_credentials(path)} lies in a store and must name what lies in stores, got {entry}; "
                "copy the list to this machine",
                path=path,
            )
        else:
            place = locate(folder)
            found.add(FoundFile(place.url(posixpath.normpath(f"{place.path}/{text}"))), is_named=True)
    return found, folder


def _open_local(path: str) -> Any:
    try:
        return Path(path).open("rb")
    except OSError as exc:
        raise InvalidInputError(f"{path} cannot be read: {exc.strerror}; check its permissions", path=path) from exc


def _is_ours(name: str) -> bool:
    """Return whether a file of a folder may be of use, by its name alone."""
    suffix = name[name.rfind(".") :].lower()
    return suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES or is_tar(name) or is_compressed_tar(name)


def _refuse_streams(source: str) -> None:
    if is_stream_address(source):
        raise InvalidInputError(
            f"a batch job must have an end, got the stream {mask_credentials(source)}; "
            "use stride32 track, or record it",
            expected="files",
            actual="a stream",
        )


def _nothing_error(source: str, found: Gathering, *, videos_only: bool) -> InvalidInputError:
    name = mask_credentials(source)
    if videos_only and found.n_pictures:
        return InvalidInputError(
            f"--task track must get videos, found {found.n_pictures} pictures and no video in {name}; "
            f"a sequence of pictures is for stride32 track {name}",
            expected="videos",
            actual=f"{found.n_pictures} pictures",
        )
    wanted = "videos" if videos_only else "pictures, videos or .tar shards"
    more = f" ({'; '.join(shown_notes(found.notes, 3))})" if found.notes else ""
    return InvalidInputError(
        f"{name} must hold {wanted}, found none{more}; check the path", expected=wanted, actual="none"
    )
