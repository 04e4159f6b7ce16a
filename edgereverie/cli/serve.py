"""``edgereverie serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.choices import Backend, Device, Guard, GuardProfile, guarding


def serve(
    model: Annotated[str, typer.Argument(help="A bundle, a merged model folder, or: starter.")],
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine only with a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="EDGEREVERIE_API_KEY", help="What clients must send. The variable keeps it out of ps."),
    ] = None,
    guard: Guard = None,
    guard_profile: GuardProfile = None,
    backend: Backend = "auto",
    device: Device = "auto",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer where a request names none, in tokens.")] = 160,
    allow_files: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Requests may name pictures under this folder.")
    ] = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Requests may name pictures at public web addresses.")
    ] = False,
    max_image: Annotated[int, typer.Option(min=1, help="Largest picture file, in MiB.")] = 16,
    max_pixels: Annotated[int, typer.Option(min=1, max=64, help="Largest picture, in millions of pixels.")] = 50,
    max_request: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 24,
    max_queue: Annotated[int, typer.Option(min=0, help="Questions that may wait behind the one being answered.")] = 32,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest time for a request, its wait included.")] = 300,
) -> None:
    """Serve a model on this machine: a page at /, and OpenAI's chat completions with every claim's evidence at /v1.

    Example: edgereverie serve starter
    """
    from edgereverie import stages
    from edgereverie.server.limits import MIB, Limits, Settings

    guards = guarding(guard, guard_profile)
    limits = Limits(max_image * MIB, max_pixels * 1_000_000, max_request * MIB, max_queue, max_seconds)
    settings = Settings(host, port, api_key, allow_files, allow_urls, guards, max_tokens, limits)
    stages.serve(model, settings, backend=backend, device=device)
