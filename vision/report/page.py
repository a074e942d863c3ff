"""The report as one HTML page that opens offline: every picture inside, no script, nothing fetched.

All text that comes from outside (class names, data names, settings) is escaped here and nowhere else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from vision.report.content import Picture, Table

STYLE_FILE = Path(__file__).with_name("style.css")
# Longer tables are folded: a page with eighty classes must still be read on a phone.
LONG_TABLE = 24


def html_page(title: str, body: Iterable[str]) -> str:
    """Return the whole document; ``body`` is HTML.

    The policy forbids scripts and every connection, so that a name that slipped through could do nothing.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{STYLE_FILE.read_text(encoding='utf-8')}</style>",
            "</head>",
            "<body>",
            "<main>",
            *body,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def html_header(name: str, kind: str, summary: str, tiles: Sequence[tuple[str, str]]) -> str:
    """Return the head of the page: what it is about and its main figures."""
    parts = [f'<p class="kind">{escape(kind)}</p>', f"<h1>{escape(name)}</h1>", f"<p>{escape(summary)}</p>"]
    if tiles:
        cells = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in tiles)
        parts.append(f'<dl class="tiles">{cells}</dl>')
    return f"<header>{''.join(parts)}</header>"


def html_section(title: str, *parts: str) -> str:
    """Return a section with its heading, or nothing when it has no part."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def html_text(text: str, css: str = "") -> str:
    """Return a paragraph."""
    return f"<p{_class(css)}>{escape(text)}</p>" if text else ""


def html_code(text: str) -> str:
    """Return lines of code, which wrap where they are too long."""
    return f"<pre>{escape(text)}</pre>" if text else ""


def html_facts(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and texts without a header; empty texts are left out."""
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in rows if text
    )
    return f'<div class="scroll"><table><tbody>{cells}</tbody></table></div>' if cells else ""


def html_table(table: Table, *, fold: bool = True) -> str:
    """Return a table with its title and note; a long one is folded unless ``fold`` is False."""
    head = "".join(
        f'<th scope="col"{_class("number" if _is_number_column(table, index) else "")}>{escape(text)}</th>'
        for index, text in enumerate(table.header)
    )
    links = table.links or ("",) * len(table.rows)
    rows = "".join(f"<tr>{_cells(table, row, link)}</tr>" for row, link in zip(table.rows, links, strict=True))
    body = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    if fold and len(table.rows) > LONG_TABLE:
        body = html_folded(f"{len(table.rows)} rows", body)
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    return title + html_text(table.note, "note") + body


def html_bars(
    header: Sequence[str], rows: Sequence[tuple[str, float, Sequence[str]]], *, shown: int = LONG_TABLE
) -> str:
    """Return a table with a bar in each row; rows beyond ``shown`` are folded.

    Args:
        header: of the names, the bars and the numbers.
        rows: name, length of the bar in [0, 1], numbers as text.
        shown: how many rows stand open.
    """
    css = ("", "bar", *("number" for _ in header[2:]))
    head = "".join(f'<th scope="col"{_class(name)}>{escape(text)}</th>' for name, text in zip(css, header, strict=True))
    lines = [_bar(name, length, numbers) for name, length, numbers in rows]
    if not lines:
        return ""
    tables = [
        f'<div class="scroll"><table class="bars"><thead><tr>{head}</tr></thead><tbody>{part}</tbody></table></div>'
        for part in ("".join(lines[:shown]), "".join(lines[shown:]))
    ]
    return tables[0] + (html_folded(f"{len(lines) - shown} more", tables[1]) if lines[shown:] else "")


def _bar(name: str, length: float, numbers: Sequence[str]) -> str:
    width = 100 * min(max(length, 0.0), 1.0)
    cells = "".join(f'<td class="number">{escape(text)}</td>' for text in numbers)
    return f'<tr><th scope="row">{escape(name)}</th><td class="bar"><i style="width:{width:.2f}%"></i></td>{cells}</tr>'


def html_folded(summary: str, content: str) -> str:
    """Return HTML that opens when its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def html_plots(pictures: Sequence[Picture]) -> str:
    """Return plots side by side where there is room."""
    return f'<div class="figures">{"".join(_figure(item) for item in pictures)}</div>' if pictures else ""


def html_gallery(pictures: Sequence[Picture]) -> str:
    """Return small pictures in as many columns as there is room for."""
    return f'<div class="gallery">{"".join(_figure(item) for item in pictures)}</div>' if pictures else ""


def html_lanes(picture: Picture) -> str:
    """Return a wide plot, which scrolls sideways where it would become too small to read."""
    return _figure(picture, "wide lanes")


def html_photos(pictures: Sequence[Picture]) -> str:
    """Return wide pictures one below the other."""
    return "".join(_figure(item, "wide") for item in pictures)


def _figure(picture: Picture, css: str = "") -> str:
    image = f'<img src="{data_uri(picture.inline)}" alt="{escape(picture.title)}">'
    if picture.inline_dark is not None:
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(picture.inline_dark)}">'
        image = f"<picture>{dark}{image}</picture>"
    caption = f"<b>{escape(picture.title)}.</b> {escape(picture.caption)}"
    return f"<figure{_class(css)}>{image}<figcaption>{caption}</figcaption></figure>"


def data_uri(image: bytes) -> str:
    """Return a PNG or JPEG as a data: address."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _cells(table: Table, row: Sequence[str], link: str) -> str:
    return "".join(
        f"<td{_class('number' if _is_number_column(table, index) else '')}>"
        f"{html_link(text, link) if link and index == 0 else escape(text)}</td>"
        for index, text in enumerate(row)
    )


def html_link(text: str, address: str) -> str:
    """Return a link to another page beside this one; ``address`` is a relative path, not yet quoted."""
    return f'<a href="{escape(quote(address))}">{escape(text)}</a>'


def _is_number_column(table: Table, index: int) -> bool:
    """Return whether every text of a column is a number or a hyphen: such columns are aligned to the right."""
    return all(_is_number(row[index]) for row in table.rows) if table.rows else False


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _class(css: str) -> str:
    return f' class="{css}"' if css else ""
