"""A judge's word on answers: asked for request by request, read strictly, kept in a journal, never made up.

A judge is any ``Responder``. What it says and no rule can read is asked for again with the reason; what cannot be read after
the last try is kept as it is, counted as unread, and goes into the scores as the published rule has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgereverie.errors import BackendError, DataError
from edgereverie.evaluation.answer_files import some
from edgereverie.evaluation.at_once import each
from edgereverie.evaluation.benchmarks.base import (
    Benchmark,
    BenchmarkResult,
    Item,
    Judge,
    JudgeRequest,
    check_ids,
    score_answers,
    variant_of,
)
from edgereverie.evaluation.judgements import (
    Judgement,
    Judgements,
    asked,
    fingerprint,
    is_one,
    judge_named_in,
    read_kept,
    without_thoughts,
)
from edgereverie.evaluation.prompts import prompt
from edgereverie.records import Options, Responder, Turn

RETRIES = 3
UNNAMED = "an unnamed judge"
_SHOWN = 300  # characters of a reply that is quoted to its judge
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
    way = _judged(benchmark, variant)
    check_ids(items, texts)
    requests = way.asked(items, texts)
    scorer = f"{benchmark.name}/{variant}"
    mark = fingerprint(scorer, way, requests, identity or judge.name, retries)
    kept = Judgements(journal, mark, judge.name, [request.id for request in requests])
    resumed = len(kept.found)
    missing = [request for request in requests if request.id not in kept.found]
    if progress:
        progress(resumed, len(requests))
    hand = partial(_ask, judge, way, retries)
    for judgement in each(missing, [hand] * max(1, at_once)):
        kept.add(judgement)
        if progress:
            progress(len(kept.found), len(requests))
    said = {request.id: kept.found[request.id] for request in requests}
    unread = tuple(id for id, judgement in said.items() if not judgement.read)
    if requests and len(unread) == len(requests):
        raise _nothing_read(judge.name, scorer, way, list(said.values()))
    return Judged(judge.name, {id: without_thoughts(j.reply) for id, j in said.items()}, unread, resumed)


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
    judged = judge_run(
        benchmark, variant, items, texts, judge,
        identity=identity, journal=journal, retries=retries, at_once=at_once, progress=progress,
    )  # fmt: skip
    return score_judged(benchmark, variant, items, judged, seed=seed)


def prepared(
    benchmark: Benchmark,
    variant: str,
    items: Sequence[Item],
    path: Path,
    texts: Mapping[str, str] | None = None,
    *,
    judge: str = "",
) -> Judged:
    """What a judge said before, from a file in the published form or a journal of ``judge_run``. Asks nobody.

    texts: the answers by item id; a journal of other answers is refused, and published forms do not tell whose they are.
    judge: its name; by default what the file says of it. Raises DataError that lists all that is missing, doubled or unknown.
    """
    way = _judged(benchmark, variant)
    if path.is_file() and is_one(path):
        requests = way.asked(items, {item.id: "" for item in items} if texts is None else texts)
        name, replies = read_kept(path, requests, same=texts is not None)
        replies = {id: without_thoughts(reply) for id, reply in replies.items()}
    else:
        name, replies = judge_named_in(path) if path.is_file() else "", way.file(path, items)
    unread = tuple(id for id, reply in replies.items() if not way.valid(reply))
    return Judged(judge or name or UNNAMED, replies, unread, len(replies))


def score_prepared(
    benchmark: Benchmark,
    variant: str,
    items: Sequence[Item],
    path: Path,
    texts: Mapping[str, str] | None = None,
    *,
    judge: str = "",
    seed: int = 0,
) -> BenchmarkResult:
    """The same, scored; the result bears the judge's name."""
    return score_judged(
        benchmark, variant, items, prepared(benchmark, variant, items, path, texts, judge=judge), seed=seed
    )


def score_judged(
    benchmark: Benchmark, variant: str, items: Sequence[Item], judged: Judged, *, seed: int = 0
) -> BenchmarkResult:
    """Scores from what a judge said."""
    return replace(score_answers(benchmark, variant, items, judged.replies, seed=seed), judge=judged.judge)


def _judged(benchmark: Benchmark, variant: str) -> Judge:
    way = variant_of(benchmark, variant).judge
    if way is None:
        raise DataError(f"{benchmark.name}/{variant} needs no judge.", hint="Score its answers as they are.")
    return way


def _ask(judge: Responder, way: Judge, retries: int, request: JudgeRequest) -> Judgement:
    """One request, and again with the reason while its reply cannot be read: always greedy, since the question differs."""
    reply, turns, mark = "", request.turns, asked(request)
    options = Options(max_tokens=way.max_tokens)
    for tried in range(1, retries + 2):
        try:
            reply = "".join(judge.respond(request.image, turns, options))
        except Declined as error:
            return Judgement(request.id, mark, reply, tried, False, str(error))
        if way.valid(without_thoughts(reply)):
            return Judgement(request.id, mark, reply, tried, True)
        turns = (*request.turns[:-1], _again(request.turns[-1], without_thoughts(reply), way.form))
    return Judgement(request.id, mark, reply, retries + 1, False)


def _again(last: Turn, reply: str, form: str) -> Turn:
    """The question once more. The reply is quoted, not made a turn: judges of short memory have to read it, too."""
    said = " ".join(reply.split())
    fault = f"“{said[:_SHOWN]}{'…' if len(said) > _SHOWN else ''}”." if said else "it was empty."
    return replace(last, text=f"{last.text}\n\n{prompt('again').filled(fault=fault, form=form)}")


def _nothing_read(name: str, scorer: str, way: Judge, said: Sequence[Judgement]) -> BackendError:
    first = said[0]
    told = first.declined or (" ".join(first.reply.split())[:_SHOWN] or "an empty reply")
    return BackendError(
        f"{scorer}: not one of {len(said)} replies of the judge {name} can be read. To {some([first.id])} it said: {told}",
        hint=f"Choose a judge that can write {way.form}.",
    )
