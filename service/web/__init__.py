"""The web page: static files of ``service/web/static`` at ``/`` and ``/web/``, under a strict content policy.

The page is plain HTML, CSS and ES modules: no build step, nothing fetched from elsewhere. It talks to the same HTTP
interface as any other client. Nothing outside ``static`` is reachable here, and nobody needs a key to load the page.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Sent with each answer of the page; one that another layer sets as well holds there, since these come later.
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # File names stay the same from release to release, so a browser asks each time and mostly gets a 304.
    "Cache-Control": "no-cache",
}
# The system's table of types may say text/plain for modules (some registries do), which browsers refuse to run.
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class PageFiles(StaticFiles):
    """Serves the files of one folder with the headers of the page; 404 for all else, 405 for other methods."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at ``path`` below the folder (or 304, if the browser has it) with the page's headers."""
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        media_type = MEDIA_TYPES.get(Path(path).suffix)
        if media_type is not None and response.status_code != 304:
            response.headers["Content-Type"] = media_type
        return response


def mount_web(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files at ``/web/``; neither appears in the OpenAPI description."""
    files = PageFiles(directory=STATIC)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.add_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/web", files, name="web")
