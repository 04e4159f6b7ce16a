"""A judge's word on answers: asked for request by request, read strictly, kept in a journal, never made up.

A judge is any ``Responder``. What it says and no rule can read is asked for again with the reason; what cannot be read after
the last try is kept as it is, counted as unread, and goes into the scores as the published rule has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgereverie.errors import BackendError
from edgereverie.evaluation.benchmarks.base import Benchmark, BenchmarkResult, Item
from edgereverie.records import Responder

RETRIES = 3
Progress = Callable[[int, int], None]
"""Called with (requests done, requests in all), first before anything is asked."""


class Declined(BackendError):
    """What a judge raises that will not, or cannot, reply to this one request and may reply to others."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What a judge said. replies: by request id, also those that cannot be read; ``unread`` lists these. resumed: replies that
    the journal held already."""

    judge: str
    replies: Mapping[str, str]
    unread: tuple[str, ...] = ()
    resumed: int = 0


def judge_run(
    benchmark: Benchmark,
    variant: str,
    items: Sequence[Item],
    texts: Mapping[str, str],
    judge: Responder,
    *,
    identity: str = "",
    journal: Path | None = None,
    retries: int = RETRIES,
    at_once: int = 1,
    progress: Progress | None = None,
) -> Judged:
    """Ask a judge about every answer. texts: answers by item id.

    identity: what tells this judge from another, by default its name. journal: file that survives a kill; the same call goes on
    from it and asks nothing twice. retries: how often a request is asked again. at_once: requests under way together, for
    judges that take several. Raises DataError when ids do not fit or the journal is another's, and BackendError when not a
    single reply can be read.
    """
    raise NotImplementedError


def judge_answers(
    benchmark: Benchmark,
    variant: str,
    items: Sequence[Item],
    texts: Mapping[str, str],
    judge: Responder,
    journal: Path | None = None,
    *,
    identity: str = "",
    retries: int = RETRIES,
    at_once: int = 1,
    progress: Progress | None = None,
    seed: int = 0,
) -> BenchmarkResult:
    """The same, scored; the result bears the judge's name."""
    raise NotImplementedError


def prepared(benchmark: Benchmark, variant: str, items: Sequence[Item], path: Path, *, judge: str = "") -> Judged:
    """What a judge said before, from a file in the published form or a journal of ``judge_run``. Asks nobody.

    judge: its name; by default what the file says of it. Raises DataError that lists all that is missing, doubled or unknown.
    """
    raise NotImplementedError


def score_prepared(
    benchmark: Benchmark, variant: str, items: Sequence[Item], path: Path, *, judge: str = "", seed: int = 0
) -> BenchmarkResult:
    """The same, scored; the result bears the judge's name."""
    raise NotImplementedError
