"""Serve a model to other programs and to a browser."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edgereverie.errors import MissingPackage
from edgereverie.stages._console import console
from edgereverie.stages.backbones import open_model

if TYPE_CHECKING:
    from edgereverie.server.limits import Settings
    from edgereverie.server.listening import Server


def serve(path: str, settings: Settings, *, backend: str = "auto") -> None:
    """Serve until Ctrl-C or SIGTERM. path: what ``open_model`` takes. Says where it listens, and with what."""
    try:
        from edgereverie.server import listening
    except ImportError as error:
        raise MissingPackage(error.name or "h11", "Serving", "serve") from None
    asyncio.run(listening.serve(open_model(path, backend=backend), settings, _told))


def _told(server: Server) -> None:
    settings, (host, port) = server.settings, server.address
    shown = f"[{host}]" if ":" in host else host
    key = "an API key is needed" if settings.key else "no API key, this machine only"
    engine = server.model.engine
    console.print(f"serving {server.model.name} ({engine.backend}) at http://{shown}:{port}", highlight=False)
    console.print(
        f"  guard {settings.guard}; {key}; OpenAI's clients: base_url http://{shown}:{port}/v1", highlight=False
    )
    console.print("  Ctrl-C stops it")
