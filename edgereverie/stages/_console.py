"""Where the stages tell how far they are: standard error, so that results can be piped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console

console = Console(stderr=True, highlight=False)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar as a callable of (done, total); it stays, so that a log tells it too."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with _shown(title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=False) as tell:
        yield tell


@contextmanager
def long_bar(title: str, every: float = 60.0) -> Iterator[Callable[[int, int], None]]:
    """``bar`` for work of hours: where nobody sees it move, a line now and then says how far it is and when it ends.

    every: seconds between lines. What was done at the first call, by an earlier run, tells nothing of the speed.
    """
    if console.is_terminal:
        with bar(title) as tell:
            yield tell
        return
    began = said = time.monotonic()
    first: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal first, said
        first, now = done if first is None else first, time.monotonic()
        if done == total:
            console.print(f"{title}: {done:,} of {total:,}", markup=False)
        elif now - said >= every and done > first:
            said, left = now, (now - began) / (done - first) * (total - done)
            ends = datetime.now() + timedelta(seconds=left)
            console.print(
                f"{title}: {done:,} of {total:,}, {duration(left)} left, until {ends:%H:%M}",
                markup=False,
                soft_wrap=True,
            )

    yield tell


@contextmanager
def passing(title: str) -> Iterator[Callable[[int, int], None] | None]:
    """The same for short work: it goes when the work is done, and only a terminal gets to see it."""
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    if not console.is_terminal:
        yield None
        return
    with _shown(title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True) as tell:
        yield tell


@contextmanager
def bytes_passing(title: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """``passing`` for bytes, with their speed; a total of None is one that nobody knows."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    if not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _shown(title, *columns, transient=True) as tell:
        yield tell


@contextmanager
def steps(title: str) -> Iterator[Callable[[str, float], None]]:
    """Work in steps, as a callable of (step, its share that is done): a bar on a terminal, elsewhere a line for each step."""
    from rich.progress import BarColumn, TaskProgressColumn, TimeElapsedColumn

    if console.is_terminal:
        columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with _progress(*columns, transient=True) as progress:
            task = progress.add_task(title, total=1.0)
            yield lambda step, share: progress.update(task, description=f"{title}: {step}", completed=share)
        return
    said: set[str] = set()

    def say(step: str, share: float) -> None:
        if step not in said:
            said.add(step)
            console.print(f"{title}: {step}")

    yield say


@contextmanager
def _shown(title: str, *columns: Any, transient: bool) -> Iterator[Any]:
    with _progress(*columns, transient=transient) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _progress(*columns: Any, transient: bool) -> Any:
    from rich.progress import Progress, TextColumn

    return Progress(TextColumn("{task.description}"), *columns, console=console, transient=transient)


def duration(seconds: float) -> str:
    """
    >>> duration(50), duration(3000), duration(30000)
    ('50 s', '50 min', '8.3 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
