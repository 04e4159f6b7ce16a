"""What every registered guard promises: replayable events, no leaks, no surprises at the edges, the same on every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgereverie.data.scenes.draw import draw_scene
from edgereverie.data.scenes.world import make_scene
from edgereverie.errors import BackendError, EdgeReverieError
from edgereverie.records import Answer, Options, Turn
from edgereverie.registry import BACKENDS, GUARDS
from edgereverie.runtime.guarding import chosen
from edgereverie.runtime.guards.base import ABSTENTION, AnswerGuard, DecodingGuard
from edgereverie.runtime.model import Model
from edgereverie.runtime.profiles import PROFILES
from edgereverie.runtime.request import Done, Event, Piece, Retraction

PICTURE = Image.new("RGB", (40, 30), "red")
# Guards that follow a calibration refuse models without one; their own tests have such a model.
NEED_CALIBRATION = {"abstain"}
GUARDED = sorted(set(GUARDS.names()) - NEED_CALIBRATION)
TOGETHER = ["reflect,flag", "contrast,verify", "rollback,reflect,verify", "search,flag", "agree,verify", *PROFILES]
QUESTIONS = (
    "Describe the image.",
    "Is there a star in the image?",
    "What is in the centre?",
    "How many rings are there?",
)


def replayed(events: Iterator[Event]) -> tuple[str, Answer]:
    """What a reader ends up with, and the answer."""
    shown, last = "", None
    for event in events:
        assert last is None, "an event after Done"
        if isinstance(event, Piece):
            assert event.text
            shown += event.text
        elif isinstance(event, Retraction):
            assert 0 <= event.length < len(shown)
            shown = shown[: event.length]
        else:
            last = event
    assert isinstance(last, Done)
    return shown, last.answer


def sound(answer: Answer) -> None:
    """What holds for any answer."""
    text = answer.text
    for claim in answer.claims:
        assert text[claim.start : claim.end] == claim.text
        assert 0 <= claim.support <= 1
    assert answer.confidence is None or 0 <= answer.confidence <= 1
    if answer.record:
        told = text if answer.draft is None else answer.draft
        assert all(0 <= token.start <= token.end <= len(told) for token in answer.record)
    assert not answer.abstained or text == ABSTENTION
    assert answer.ended in ("stop", "length")


@pytest.fixture(scope="module")
def words(talking: Any) -> Any:
    return talking.tokenizer()


@pytest.fixture
def say(words: Any, talking: Any) -> Callable[..., Model]:
    """A model that says ``text`` to every question of its own, unsurely, and that only stars are in the picture."""

    def make(text: str) -> Model:
        def says(question: str, seen: bool, said: str) -> Any:
            if "right or wrong" in question or "wrong or right" in question:
                return {"right": 0.3, "wrong": 0.6} if seen else {"right": 0.5, "wrong": 0.4}
            if question.startswith(("Is there", "Are there")) and "image" in question:
                yes = seen and "star" in question
                return {"": 0.99} if said else {"Yes": 0.9 if yes else 0.2, "No": 0.1 if yes else 0.7}
            return text

        return talking.talker(words, says)

    return make


@pytest.mark.parametrize("name", GUARDS.names())
def test_it_is_a_guard_and_named_like_its_module(name: str) -> None:
    guard = GUARDS.get(name)
    assert guard.name == name
    assert isinstance(guard, AnswerGuard) != isinstance(guard, DecodingGuard)


@pytest.mark.parametrize("guards", [*GUARDED, *TOGETHER])
@pytest.mark.parametrize("picture", [PICTURE, None], ids=["picture", "blind"])
@pytest.mark.parametrize(
    "text", ["A star. A moon. It is blue.", "", "Yes.", "🙂 a ring, née 日本語.", "A star", "   ", "\n\n", "a. b. c."]
)
def test_events_replay_to_the_answer(say: Callable[..., Model], guards: str, picture: Any, text: str) -> None:
    model = say(text)
    for question in ("Describe it.", "Is there a ring?"):
        shown, answer = replayed(model.events(picture, [Turn("user", question)], Options(max_tokens=60), guards))
        assert shown == answer.text
        sound(answer)
    model.sight.close()
    assert model.engine.live == 0


@pytest.mark.parametrize("guards", [*GUARDED, *TOGETHER])
@pytest.mark.parametrize("most", [1, 2, 4])
def test_answers_may_be_cut_anywhere(say: Callable[..., Model], guards: str, most: int) -> None:
    model = say("A red star. A moon.")
    shown, answer = replayed(model.events(PICTURE, [Turn("user", "Describe it.")], Options(max_tokens=most), guards))
    assert shown == answer.text
    sound(answer)
    assert len(answer.record) <= most


@pytest.mark.parametrize("guards", [*GUARDED, *TOGETHER])
def test_a_reader_who_leaves_takes_no_stream_along(say: Callable[..., Model], guards: str) -> None:
    model = say("A star. A moon.")
    for taken in range(1, 8):
        events = model.events(PICTURE, [Turn("user", "Describe it.")], Options(), guards)
        for _ in range(taken):
            if isinstance(next(events), Done):
                break
        events.close()
        model.sight.close()
        assert model.engine.live == 0


@pytest.mark.parametrize("guards", [*GUARDED, *TOGETHER])
def test_a_fault_midway_takes_no_stream_along(say: Callable[..., Model], guards: str) -> None:
    """The engine fails at its n-th feed, wherever that is, until an answer needs fewer."""
    for sound in range(1, 100, 2):
        model = say("A star. A moon.")
        model.engine.sound = sound
        try:
            replayed(model.events(PICTURE, [Turn("user", "Describe it.")], Options(), guards))
            break
        except BackendError:
            model.sight.close()
            assert model.engine.live == 0, sound
    assert 5 <= sound < 99


@pytest.mark.parametrize("guards", [*GUARDED, *TOGETHER])
def test_stop_words_hold(say: Callable[..., Model], guards: str) -> None:
    model = say("A star. A moon.")
    answer = model.answer(PICTURE, [Turn("user", "Describe it.")], Options(stop=("moon",)), guards)
    assert "moon" not in answer.text


@pytest.mark.parametrize("guards", [*GUARDED, *TOGETHER])
def test_the_answer_names_its_guards(say: Callable[..., Model], guards: str) -> None:
    answer = say("A star.").answer(PICTURE, [Turn("user", "Describe it.")], Options(), guards)
    decoding, looking = chosen(guards)
    assert answer.guards == tuple(guard.name for guard in (decoding, *looking) if guard is not None)
    assert answer.seconds > 0


@pytest.mark.parametrize(
    ("guards", "why"),
    [
        ("contrast,rollback", "both decide"),
        ("search,contrast", "both decide"),
        ("agree,search", "draws the model's own"),
        ("flag,flag", "named twice"),
        ("balanced,verify", "named twice"),
        ("flagg", "Unknown guard"),
        ("", "Unknown guard"),
    ],
)
def test_combinations_that_mean_nothing_are_refused_with_the_reason(
    say: Callable[..., Model], guards: str, why: str
) -> None:
    model = say("A star.")
    with pytest.raises(EdgeReverieError, match=why) as caught:
        model.events(PICTURE, [Turn("user", "Describe it.")], Options(), guards)
    assert caught.value.hint
    assert model.engine.fed == 0


def test_the_order_of_names_does_not_matter(say: Callable[..., Model]) -> None:
    assert [guard.name for guard in chosen("verify,flag,reflect,agree")[1]] == ["agree", "reflect", "verify"]
    assert chosen("none") == chosen([]) == (None, ())
    assert chosen("none,flag") == chosen("flag")


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_hold_guards_that_go_together(name: str) -> None:
    assert name not in GUARDS.names()
    decoding, looking = chosen(name)
    assert {guard.name for guard in (decoding, *looking) if guard} == set(PROFILES[name])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn picture."""
    path = tmp_path_factory.mktemp("scenes") / "drawn.png"
    draw_scene(make_scene("contract/0", 0.35)).save(path)
    return path


@pytest.fixture(scope="module")
def starters(starter_at: Callable[[str], Path]) -> Iterator[Callable[[str], Model]]:
    """The starter on each backend, in 32 bit; loaded once."""
    opened: list[Model] = []

    @cache
    def load(backend: str) -> Model:
        opened.append(Model.load(starter_at(backend), backend, precise=True))
        return opened[-1]

    yield load
    for model in opened:
        model.close()


@pytest.mark.parametrize("guards", GUARDED)
@pytest.mark.parametrize("backend", [name for name in BACKENDS.names() if name != "hf"])
def test_every_backend_decides_alike(
    starters: Callable[[str], Model], drawn: Path, guards: str, backend: str
) -> None:  # fmt: skip
    """Against PyTorch: the same words, claims and verdicts; figures as near as 16-bit weights allow."""
    reference, other = starters("hf"), starters(backend)
    for question in QUESTIONS:
        here, there = (
            model.answer(drawn, [Turn("user", question)], Options(max_tokens=48), guards)
            for model in (reference, other)
        )
        assert there.text == here.text
        assert (there.abstained, there.draft) == (here.abstained, here.draft)
        assert [(c.text, c.kind, c.verdict) for c in there.claims] == [(c.text, c.kind, c.verdict) for c in here.claims]
        for one, two in zip(here.claims, there.claims, strict=True):
            assert one.evidence.keys() == two.evidence.keys()
            assert two.support == pytest.approx(one.support, abs=0.05)


@pytest.mark.parametrize("guards", GUARDED)
def test_greedy_answers_repeat(starters: Callable[[str], Model], drawn: Path, guards: str) -> None:
    """Also when other questions came between, so that the caches hold other things."""
    model = starters("llamacpp")

    def ask(question: str) -> Answer:
        return model.answer(drawn, [Turn("user", question)], Options(max_tokens=32), guards)

    first = {question: ask(question) for question in QUESTIONS}
    for question in reversed(QUESTIONS):
        again = ask(question)
        assert again.text == first[question].text
        assert [claim.verdict for claim in again.claims] == [claim.verdict for claim in first[question].claims]
