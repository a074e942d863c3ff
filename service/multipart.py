"""The one file of a multipart body, as it streams in: no part is ever held in memory or in a second file."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequestError

# Room for the headers and boundaries around the file.
OVERHEAD_BYTES = 16 << 10


class SinglePart:
    """Takes the bytes of a multipart body and gives back those of the one part ``field``.

    Args:
        content_type: the request's Content-Type, with the boundary.
        field: name of the part.

    Raises:
        BadRequestError: no boundary, another part, a second part, or no multipart syntax; also from the methods.
    """

    def __init__(self, content_type: str, field: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        self._field = field.encode()
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []
        self._parts = 0
        self._ended = False
        try:
            if not boundary:
                raise FormParserError("no boundary")
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._check_part,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as exc:
            raise BadRequestError(
                f"multipart/form-data must come with a boundary, found {content_type[:100]!r} ({exc}); let the client "
                "write the header"
            ) from exc

    def feed(self, data: bytes) -> list[bytes]:
        """Return the pieces of the file that are in the next bytes of the body."""
        self._pieces = []
        try:
            self._parser.write(data)
        except FormParserError as exc:
            raise BadRequestError(
                f"the body must be multipart/form-data, found other bytes ({exc}); send it again"
            ) from exc
        return self._pieces

    def finish(self) -> None:
        """Check that the file was there and is whole."""
        if not self._ended or self._parts != 1:
            raise BadRequestError(
                f"the multipart body must hold one file part named {self._field.decode()} and end with its boundary, "
                "it ended before; send it again"
            )

    def _begin_part(self) -> None:
        self._parts += 1
        self._disposition = b""
        if self._parts > 1:
            raise self._wrong("a second part")

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _check_part(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or options.get(b"name") != self._field:
            raise self._wrong(f"a part named {options.get(b'name', b'').decode('ascii', 'replace')[:100]!r}")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        self._ended = True

    def _wrong(self, found: str) -> BadRequestError:
        field = self._field.decode()
        return BadRequestError(
            f"the multipart body must hold one file part named {field} and nothing else, found {found}; pass options "
            "in the query"
        )
