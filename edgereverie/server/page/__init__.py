"""The page at ``/``: three files, nothing from outside."""

from __future__ import annotations

from pathlib import Path

# Scripts and styles only from here, and nothing at all from elsewhere; pictures are shown from the browser's own memory.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOLDER = Path(__file__).parent
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def files() -> dict[str, tuple[bytes, str]]:
    """Content and media type by path."""
    found = {
        f"/{path.name}": (path.read_bytes(), f"{_KINDS[path.suffix]}; charset=utf-8")
        for path in sorted(_FOLDER.iterdir())
        if path.suffix in _KINDS
    }
    return {"/": found.pop("/index.html")} | found
