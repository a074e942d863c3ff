"""The report of tracks: a page for each sequence, an index above them, and the figures as PNG."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision.evaluation.mot.matching import Matches, Switch, find_switches, match_sequence
from vision.evaluation.mot.meanings import MEANINGS
from vision.evaluation.mot.pictures import find_frames, switch_pictures
from vision.evaluation.mot.plots import MOST_LANES, alpha_figure, coverage_figure, sequences_figure, timeline_figure
from vision.evaluation.mot.summary import ObjectSummary, TrackSummary, summarise_objects, summarise_tracks
from vision.evaluation.tracking import COUNTS, Scores, SequenceScores, TrackingEvaluation
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.images import prepare_folder
from vision.report import page
from vision.report.content import Picture, Table, photo, plot

INDEX_FILE = "index.html"
FIGURES_FOLDER = "figures"
KIND = "Stride32 tracks, evaluation report"
# Rows that are open in a page; what follows is folded.
ROWS_SHOWN = 15
MOST_IDS = 8
TILES = ("HOTA", "MOTA", "IDF1", "IDSW")
MAIN_COLUMNS = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN", "GT")


@dataclass(frozen=True, slots=True)
class _Page:
    """What one page is made from."""

    item: SequenceScores
    address: str
    matches: Matches
    switches: list[Switch]
    objects: list[ObjectSummary]
    tracks: list[TrackSummary]


def write_track_report(
    evaluation: TrackingEvaluation,
    folder: Path,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
    on_page: Callable[[str], None] | None = None,
) -> Path:
    """Write ``folder/index.html``, a page a sequence where there are several, and ``figures/``; returns the index.

    Args:
        evaluation: of evaluate_tracks.
        folder: made if it is not there.
        frames: pictures or video for the switches, see ``find_frames``; by default img1 beside the ground truth.
        overwrite: write into a folder that holds files.
        on_page: called with the title of each sequence when its page is written.

    Raises:
        OutputExistsError: the folder holds files and ``overwrite`` is False.
        InvalidInputError: the folder cannot be made, or ``frames`` does not fit.
        MissingDependencyError: matplotlib is not installed.
    """
    names = {item.data.name: item.truth_path for item in evaluation.sequences}
    pictures = {name: find_frames(name, path, frames, only=len(names) == 1) for name, path in names.items()}
    prepare_folder(folder, overwrite=overwrite)
    addresses = page_addresses([item.title for item in evaluation.sequences])
    pages = [_analyse(item, address) for item, address in zip(evaluation.sequences, addresses, strict=True)]
    for entry in pages:
        _write_page(entry, folder, pictures[entry.item.data.name], evaluation.notes, single=len(pages) == 1)
        if on_page is not None:
            on_page(entry.item.title)
    if len(pages) > 1:
        _write_index(evaluation, pages, folder)
    return folder / INDEX_FILE


def _analyse(item: SequenceScores, address: str) -> _Page:
    matches = match_sequence(item.data)
    switches = find_switches(matches)
    return _Page(item, address, matches, switches, summarise_objects(matches, switches), summarise_tracks(matches))


def page_addresses(titles: Sequence[str]) -> list[str]:
    """Return a file name for the page of each title; the only one is the index.

    >>> page_addresses(["A"]), page_addresses(["Index", "a/1", "A 1"])
    (['index.html'], ['Index-2.html', 'a-1.html', 'A-1-2.html'])
    """
    if len(titles) == 1:
        return [INDEX_FILE]
    taken = {INDEX_FILE.lower()}
    addresses = []
    for title in titles:
        stem = re.sub(r"[^\w.-]+", "-", title).strip("-.") or "sequence"
        candidates = [f"{stem}.html", *(f"{stem}-{number}.html" for number in range(2, len(titles) + 2))]
        # Names that differ in case alone are one file on some systems.
        address = next(name for name in candidates if name.lower() not in taken)
        taken.add(address.lower())
        addresses.append(address)
    return addresses


def _write_page(entry: _Page, folder: Path, frames: Path | None, notes: Sequence[str], *, single: bool) -> None:
    item = entry.item
    stem = entry.address.removesuffix(".html") if not single else "tracks"
    timeline = plot(
        f"{stem}-timeline", "Tracks over time",
        "A lane is an object. A bar is the result that follows it, with its id; a thin line means that it is there and "
        "missed; a triangle is a switch. Below, the false positives and the missed objects of each frame.",
        lambda theme: timeline_figure(entry.matches, entry.objects, entry.switches, theme),
    )  # fmt: skip
    plots = [
        plot(f"{stem}-alpha", "Scores over the overlap", "Falling early means loose boxes; low throughout, wrong ids "
             "(AssA) or missed and false boxes (DetA).", lambda theme: alpha_figure(item.curves, theme)),
        plot(f"{stem}-coverage", "Coverage", "The distance between the lines is what changes of identity cost.",
             lambda theme: coverage_figure(entry.objects, theme)),
    ]  # fmt: skip
    photos = _photos(entry, frames, stem)
    own_notes = [note for note in notes if single or note.startswith(f"{item.data.name}:")]
    body = [
        page.html_header(item.title, KIND, _summary(entry), _tiles(item.scores)),
        "" if single else f'<p class="note">{page.html_link("All sequences", INDEX_FILE)}</p>',
        *(page.html_text(note, "warning") for note in own_notes),
        page.html_section("Tracks over time", page.html_lanes(timeline)),
        page.html_section("Objects", *_folded(_object_table(entry.objects))),
        page.html_section(
            "Switches",
            *_folded(_switch_table(entry)),
            page.html_text(_photo_note(entry, photos), "note"),
            page.html_plots(photos),
        ),
        page.html_section("Results", *_folded(_track_table(entry.tracks))),
        page.html_section("Scores", page.html_plots(plots), page.html_table(_score_table(item.scores))),
    ]
    _save(folder, entry.address, f"{item.title}: tracks", body, [timeline, *plots, *photos])


def _write_index(evaluation: TrackingEvaluation, pages: Sequence[_Page], folder: Path) -> None:
    total = evaluation.totals["combined"]
    bars = plot(
        "sequences", "Sequences", "All together last.", lambda theme: sequences_figure(evaluation.table(), theme)
    )
    links = tuple(entry.address for entry in pages) + ("",) * len(evaluation.totals)
    rows = tuple(
        (title, *(_cell(name, row[name]) for name in MAIN_COLUMNS)) for title, row in evaluation.table().items()
    )
    body = [
        page.html_header(f"{len(pages)} sequences", KIND, "", _tiles(total)),
        *(page.html_text(note, "warning") for note in evaluation.notes),
        page.html_section("Sequences", page.html_table(Table("", ("sequence", *MAIN_COLUMNS), rows, links=links))),
        page.html_section("Worst objects of all", *_folded(_worst_objects(pages))),
        page.html_section("Scores", page.html_plots([bars]), page.html_table(_score_table(total))),
    ]
    _save(folder, INDEX_FILE, "Tracks of all sequences", body, [bars])


def _save(folder: Path, address: str, title: str, body: Sequence[str], pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        _write(folder / FIGURES_FOLDER / f"{picture.name}.png", picture.png)
    _write(folder / address, page.html_page(title, body).encode("utf-8"))


def _write(path: Path, content: bytes) -> None:
    output = AtomicFile(path, overwrite=True)
    output.write(content)
    output.commit()


def _summary(entry: _Page) -> str:
    data = entry.item.data
    text = (
        f"{len(data.objects.known_ids)} objects in {data.length} frames ({len(data.objects)} boxes), "
        f"{len(data.results.known_ids)} result tracks ({len(data.results)} boxes)."
    )
    if data.forgiven:
        text += f" {data.forgiven} more result boxes lie on distractors and do not count."
    return text


def _tiles(scores: Scores) -> list[tuple[str, str]]:
    return [(name, _cell(name, scores[name])) for name in TILES]


def _cell(name: str, value: float) -> str:
    return f"{value:.0f}" if name in COUNTS else f"{value:.1f}"


def _score_table(scores: Scores) -> Table:
    rows = tuple((name, _cell(name, value), MEANINGS[name]) for name, value in scores.items())
    return Table("All scores", ("score", "value", "meaning"), rows, "Percentages and counts, by TrackEval.")


def _object_table(objects: Sequence[ObjectSummary]) -> Table:
    header = (
        *("object", "first", "last", "frames", "followed", "by one id", "lost frames"),
        *("switches", "breaks", "longest gap", "overlap", "ids"),
    )
    rows = tuple(
        (
            *(str(row.object_id), str(row.first), str(row.last), str(row.frames)),
            *(_share(row.matched, row.frames), _share(row.main_frames, row.frames), str(row.lost)),
            *(str(row.switches), str(row.breaks), str(row.longest_gap)),
            *(f"{row.mean_overlap:.2f}" if row.matched else "-", _ids(row.result_ids)),
        )
        for row in objects
    )
    note = (
        "The worst first: by frames lost, in which the object is missed or followed by another than its main id. "
        f"Percentages are of its frames. The picture shows at most {MOST_LANES} lanes."
    )
    return Table("", header, rows, note)


def _worst_objects(pages: Sequence[_Page]) -> Table:
    ranked = sorted(
        ((entry, row) for entry in pages for row in entry.objects),
        key=lambda pair: (-pair[1].lost, -pair[1].switches),
    )[: 4 * ROWS_SHOWN]
    rows = tuple(
        (
            *(entry.item.title, str(row.object_id), str(row.frames), _share(row.matched, row.frames)),
            *(_share(row.main_frames, row.frames), str(row.lost), str(row.switches)),
        )
        for entry, row in ranked
    )
    header = ("sequence", "object", "frames", "followed", "by one id", "lost frames", "switches")
    return Table("", header, rows, links=tuple(entry.address for entry, _ in ranked))


def _switch_table(entry: _Page) -> Table:
    rows = tuple(
        (
            *(str(item.frame), str(item.object_id), str(item.before_id), str(item.after_id)),
            *(str(item.frame - item.before_frame - 1), item.kind),
        )
        for item in entry.switches
    )
    note = (
        "In the order of frames. The gap counts frames without a match before the switch. A new track lost its object "
        "and began again; one taken from another object exchanged two."
    )
    if not rows:
        note = "No object changes its id."
    return Table("", ("frame", "object", "id before", "id after", "gap", "the new id is"), rows, note)


def _track_table(tracks: Sequence[TrackSummary]) -> Table:
    rows = tuple(
        (
            *(str(row.result_id), str(row.first), str(row.last), str(row.frames), str(row.false)),
            *(str(row.frames - row.false - row.main_frames), _ids(row.object_ids) or "-"),
        )
        for row in tracks
    )
    header = ("id", "first", "last", "frames", "on no object", "on another object", "objects, the longest first")
    return Table("", header, rows, "The worst first: by frames on no object or on another than its main one.")


def _folded(table: Table) -> list[str]:
    """Return the first rows open and the rest folded."""
    if len(table.rows) <= ROWS_SHOWN + 5:
        return [page.html_table(table) if table.rows else page.html_text(table.note, "note")]
    links = table.links or ("",) * len(table.rows)
    first = Table(table.title, table.header, table.rows[:ROWS_SHOWN], table.note, links[:ROWS_SHOWN])
    rest = Table("", table.header, table.rows[ROWS_SHOWN:], "", links[ROWS_SHOWN:])
    return [page.html_table(first), page.html_folded(f"{len(rest.rows)} more", page.html_table(rest, fold=False))]


def _photos(entry: _Page, frames: Path | None, stem: str) -> list[Picture]:
    if frames is None or not entry.switches:
        return []
    shown = switch_pictures(entry.matches, entry.objects, entry.switches, frames)
    return [
        photo(
            f"{stem}-switch-{number:02d}",
            f"Object {switch.object_id}, frame {switch.frame}",
            f"From id {switch.before_id} to id {switch.after_id}, {switch.kind}.",
            picture,
        )
        for number, (switch, picture) in enumerate(shown, start=1)
    ]


def _photo_note(entry: _Page, photos: Sequence[Picture]) -> str:
    if not photos:
        return ""
    shown = "All switches" if len(photos) == len(entry.switches) else f"{len(photos)} of {len(entry.switches)} switches"
    return (
        f"{shown}, the worst objects first: the last frame of the old id beside the first of the new one. White is the "
        "object, strong the result that follows it, thin the other results."
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}"


def _ids(ids: Sequence[int]) -> str:
    text = ", ".join(map(str, ids[:MOST_IDS]))
    return f"{text} and {len(ids) - MOST_IDS} more" if len(ids) > MOST_IDS else text
