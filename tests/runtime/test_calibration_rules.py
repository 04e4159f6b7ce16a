"""Rules in words, in a bundle's manifest, and done to answers; what they were made for, and refused for anything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgereverie.bundle import Bundle
from edgereverie.chat import chat_format
from edgereverie.errors import BackendError, BundleError, DataError
from edgereverie.records import Answer, Claim, Options, Turn
from edgereverie.runtime.calibration import record
from edgereverie.runtime.calibration.applying import apply_rules, outside
from edgereverie.runtime.calibration.learning import Known, learn, split_of
from edgereverie.runtime.calibration.record import Calibration, fitting, identity, required, store
from edgereverie.runtime.calibration.rules import Judged, Rule, choose_rules, measure_rule, thresholds_to_walk
from edgereverie.runtime.fusion import Fusion
from edgereverie.runtime.guards.base import ABSTENTION
from edgereverie.runtime.request import Request
from edgereverie.text.claims import claims

SELECTIVE = Rule("selective", "closed", 0.1, 0.8, 1200, 0.1)
FILTER = Rule("filter", "open", 0.1, 0.6, 300)
SHARE = Rule("share", "open", 0.1, 0.4, 300)
SET = Rule("set", "closed", 0.1, 0.3, 300)


def loaded(bundle: Bundle | None, backend: str = "llamacpp", chat: str = "phi3") -> SimpleNamespace:
    """As much of a model as a calibration looks at."""
    return SimpleNamespace(
        bundle=bundle, engine=SimpleNamespace(backend=backend), chat=chat_format(chat), name="small", calibration=None
    )


def calibration(bundle: Bundle, *rules: Rule, **named: object) -> Calibration:
    told = identity(loaded(bundle)) | {
        "data": "made up",
        "images": {"fit": 5},
        "claims": {"fit": 9},
        "fusion": Fusion(),
    }
    return Calibration(**(told | {"rules": rules} | named))


def asked(bundle: Bundle, question: str, *rules: Rule, options: Options | None = None, **named: object) -> Request:
    model = loaded(bundle)
    model.calibration = calibration(bundle, *rules, **named)
    return Request(model, object(), (Turn("user", question),), options or Options())


def said(request: Request, text: str, support: Mapping[str, float], guards: tuple[str, ...] = ("flag",)) -> Answer:
    """An answer whose claims have these supports, by subject."""
    found = tuple(
        Claim(
            m.text, m.start, m.end, m.subject, support[m.subject], "supported", {"polarity": 1.0}, m.kind, m.statement
        )
        for m in claims(request.question, text)
    )
    return Answer(text, claims=found, guards=guards)


# Words and JSON


def test_each_rule_says_what_it_promises() -> None:
    assert FILTER.words == "every kept claim true with probability >= 0.90, n = 300"
    assert SHARE.words == "false claims kept, as a share of all that were made, <= 0.10 on average, n = 300"
    assert SET.words == "the truth among the named answers with probability >= 0.90, n = 300"
    assert (
        replace(SELECTIVE, alpha=0.05, delta=0.2).words == "selective risk <= 0.05 with probability >= 0.80, n = 1200"
    )


def test_record_there_and_back(small_bundle: Bundle) -> None:
    made = calibration(
        small_bundle, SELECTIVE, FILTER, lacking=("x",), guards=("verify",), seed=3, report={"auroc/fusion": 0.9}
    )
    assert Calibration.from_json(json.loads(json.dumps(made.as_json(), allow_nan=False))) == made


@pytest.mark.parametrize("spoil", [
    lambda told: told.pop("rules"),
    lambda told: told.update(version=2),
    lambda told: told["rules"][0].update(name="oracle"),
    lambda told: told["rules"][0].update(threshold=float("nan")),
    lambda told: told["rules"][0].pop("alpha"),
    lambda told: told.update(colour="red"),
    lambda told: told.update(artefact=7),
    lambda told: told.update(report={"x": "high"}),
])  # fmt: skip
def test_a_spoilt_record_is_refused(small_bundle: Bundle, spoil: Callable) -> None:
    told = json.loads(json.dumps(calibration(small_bundle, SELECTIVE).as_json()))
    spoil(told)
    with pytest.raises(BundleError) as refused:
        Calibration.from_json(told)
    assert "edgereverie calibrate" in (refused.value.hint or "")


# In the bundle


def test_stored_in_the_manifest_and_the_bundle_stays_whole(small_bundle: Bundle) -> None:
    before = small_bundle.fingerprint()
    store(small_bundle, calibration(small_bundle, SELECTIVE))
    again = Bundle.load(small_bundle.folder)
    assert again.faults() == []
    assert again.fingerprint() == before
    assert Calibration.from_json(again.calibration).rules == (SELECTIVE,)
    assert fitting(loaded(again)) == calibration(small_bundle, SELECTIVE)


def test_a_failed_write_leaves_the_old_manifest(small_bundle: Bundle, file_size_limit: Callable) -> None:
    before = (small_bundle.folder / "bundle.json").read_bytes()
    with pytest.raises(OSError), file_size_limit(100):
        store(small_bundle, calibration(small_bundle, SELECTIVE))
    assert (small_bundle.folder / "bundle.json").read_bytes() == before
    assert [path.name for path in small_bundle.folder.iterdir() if path.name.startswith(".")] == []


def test_refused_for_another_artefact(small_bundle: Bundle) -> None:
    other = replace(calibration(small_bundle, SELECTIVE), artefact="0" * 64)
    with pytest.raises(BundleError, match="the calibration is for artefact 000000000000, this is"):
        store(small_bundle, other)
    replace(small_bundle, calibration=other.as_json()).write()
    (fault,) = Bundle.load(small_bundle.folder).faults()
    assert fault.startswith("Its calibration is for artefact 000000000000, this is")


@pytest.mark.parametrize("change, told", [
    ({"backend": "hf"}, "the backend is hf, calibrated was llamacpp"),
    ({"chat": "vicuna_v1"}, "the prompt is"),
])  # fmt: skip
def test_not_used_on_another_backend_or_prompt(
    small_bundle: Bundle, change: dict[str, str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = store(small_bundle, calibration(small_bundle, SELECTIVE))
    model = loaded(bundle, **change)
    record._warn.cache_clear()
    assert fitting(model) is None
    assert told in caplog.text
    with pytest.raises(BackendError, match=told) as refused:
        required(model)
    assert refused.value.hint.endswith(f"--backend {model.engine.backend}")


def test_rules_are_required_of_a_model_that_has_none(small_bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="was not calibrated"):
        required(loaded(small_bundle))
    with pytest.raises(BackendError, match="only an exported bundle"):
        identity(loaded(None))


# Done to answers


def test_a_yes_that_is_sure_enough_carries_the_promise(small_bundle: Bundle) -> None:
    request = asked(small_bundle, "Is there a ring in the image?", SELECTIVE)
    for support, act in ((0.8, True), (0.8, False), (0.99, True)):
        answer = apply_rules(request, said(request, "Yes.", {"ring": support}), act=act)
        assert answer.text == "Yes." and not answer.abstained
        assert answer.guarantee == (
            f"selective risk <= 0.10 with probability >= 0.90, n = 1200, artefact {small_bundle.fingerprint()[:12]}"
        )


def test_a_yes_under_the_threshold_is_not_given(small_bundle: Bundle) -> None:
    request = asked(small_bundle, "Is there a ring in the image?", SELECTIVE)
    plain = said(request, "Yes.", {"ring": 0.79})
    answer = apply_rules(request, plain, act=True)
    assert (answer.text, answer.abstained, answer.draft, answer.claims) == (ABSTENTION, True, "Yes.", ())
    assert "support 0.790 is under 0.800" in answer.reason and answer.guarantee == ""
    # One that only tells: the text stays, nothing is promised, and the reason says why.
    answer = apply_rules(request, plain, act=False)
    assert (answer.text, answer.abstained, answer.guarantee) == ("Yes.", False, "")
    assert answer.reason == "no promise: support 0.790 is under 0.800"


@pytest.mark.parametrize("threshold, support, given", [
    (0.3, 0.71, True),  # 1 - 0.71 <= 0.3: yes stays possible, no needs 0.71 <= 0.3: it does not
    (0.3, 0.69, False),  # neither
    (0.6, 0.55, False),  # both
    (0.3, 0.2, False),  # only the contrary
])  # fmt: skip
def test_a_set_of_one_answer_is_given(small_bundle: Bundle, threshold: float, support: float, given: bool) -> None:
    request = asked(small_bundle, "Is there a ring in the image?", replace(SET, threshold=threshold))
    answer = apply_rules(request, said(request, "Yes.", {"ring": support}), act=True)
    assert answer.abstained is not given
    assert bool(answer.guarantee) is given


def test_claims_that_are_not_kept_leave_the_text(small_bundle: Bundle) -> None:
    request = asked(small_bundle, "Describe the image.", FILTER, SHARE)
    plain = said(request, "There is a ring, a star and a moon.", {"ring": 0.9, "star": 0.6, "moon": 0.61})
    answer = apply_rules(request, plain, act=True)
    assert answer.text == "There is a ring and a moon."
    assert [answer.text[one.start : one.end] for one in answer.claims] == ["a ring", "a moon"]
    assert answer.draft == plain.text and answer.confidence == 0.61
    assert answer.reason == "left out, with a support of at most 0.600: a star"
    assert answer.guarantee.startswith("every kept claim true with probability >= 0.90, n = 300, artefact ")
    told = apply_rules(request, plain, act=False)
    assert told.text == plain.text
    assert told.guarantee.startswith("of claims with support over 0.600: every kept claim true")


def test_an_answer_of_which_nothing_stays_is_not_given(small_bundle: Bundle) -> None:
    request = asked(small_bundle, "Describe the image.", FILTER)
    answer = apply_rules(request, said(request, "There is a ring.", {"ring": 0.1}), act=True)
    assert (answer.text, answer.abstained, answer.guarantee) == (ABSTENTION, True, "")


def test_risk_control_stands_in_where_the_filter_has_no_data(small_bundle: Bundle) -> None:
    request = asked(small_bundle, "Describe the image.", SHARE)
    answer = apply_rules(request, said(request, "A ring and a star.", {"ring": 0.9, "star": 0.3}), act=True)
    assert answer.guarantee.startswith("false claims kept, as a share of all that were made, <= 0.10 on average")
    assert [one.subject for one in answer.claims] == ["ring"]


def test_no_promise_for_answers_that_came_about_otherwise(small_bundle: Bundle) -> None:
    question = "Is there a ring in the image?"
    greedy = asked(small_bundle, question, SELECTIVE)
    answer = said(greedy, "Yes.", {"ring": 0.9})
    assert outside(greedy, answer, greedy.model.calibration) == ""
    sampled = asked(small_bundle, question, SELECTIVE, options=Options(temperature=0.7))
    later = replace(greedy, turns=(Turn("user", "?"), Turn("assistant", "!"), Turn("user", question)))
    cases = {
        "greedy": (sampled, answer),
        "first question": (later, answer),
        "no claim": (replace(greedy, image=None), answer),
        "at work: the guard contrast": (greedy, replace(answer, guards=("contrast", "flag"))),
    }
    for why, (request, one) in cases.items():
        assert why in outside(request, one, request.model.calibration)
        for act in (True, False):
            done = apply_rules(request, replace(one, guarantee="of an earlier guard"), act=act)
            assert (done.guarantee, done.text, done.abstained) == ("", "Yes.", False)


def test_no_promise_where_evidence_is_lacking(small_bundle: Bundle) -> None:
    from edgereverie.runtime.fusion import EVERY, Feature, Reading, Readings

    fusion = Fusion({EVERY: Readings(Reading((Feature("reflection", 1.0, missing=None),)))})
    request = asked(small_bundle, "Is there a ring?", SELECTIVE, fusion=fusion)
    answer = said(request, "Yes.", {"ring": 0.99})
    assert outside(request, answer, request.model.calibration) == "not measured: reflection"
    assert apply_rules(request, answer, act=True) == answer


def test_without_calibration_nothing_changes(small_bundle: Bundle) -> None:
    request = Request(loaded(small_bundle), object(), (Turn("user", "Is there a ring?"),))
    answer = said(request, "Yes.", {"ring": 0.2})
    assert apply_rules(request, answer, act=True) is answer


# Choosing


def judged(score: float, right: bool) -> Judged:
    return Judged(score, right, np.array([score]), np.array([right]))


@pytest.mark.parametrize("n, told", [
    (21, "selective answering (closed): 21 pictures to choose on, 22 are needed at least: 1 more"),
    (8, "prediction sets (closed): 8 pictures to choose on, 9 are needed at least: 1 more"),
])  # fmt: skip
def test_too_little_data_says_how_many_more(n: int, told: str) -> None:
    answers = [judged(0.9, True)] * n
    _, lacking = choose_rules(answers, "closed", np.array([0.5]), alpha=0.1, delta=0.1)
    assert told in lacking


def test_too_little_for_open_answers() -> None:
    rules, lacking = choose_rules([judged(0.9, True)] * 18, "open", np.empty(0), alpha=0.05, delta=0.1)
    assert rules == []
    assert lacking == [
        "the claim filter (open): 18 pictures to choose on, 19 are needed at least: 1 more",
        "risk control (open): 18 pictures to choose on, 19 are needed at least: 1 more",
    ]


def test_a_risk_that_is_never_low_enough_is_told() -> None:
    answers = [judged(i / 100, i % 3 > 0) for i in range(99)]
    rules, lacking = choose_rules(answers, "closed", np.linspace(0, 0.9, 10), alpha=0.1, delta=0.1)
    assert [rule.name for rule in rules] == ["set"]
    assert lacking == [
        "selective answering (closed): at no threshold is a risk of at most 0.10 beyond doubt, nor measured at any "
        "(of the surest 19 of 99 answers, 6 are wrong)"
    ]


def test_a_risk_that_only_needs_more_pictures_to_be_proven() -> None:
    """Half of 24 answers are sure and right: 12 without error are too few, 22 such would do, so 44 pictures."""
    answers = [judged(0.9, True)] * 12 + [judged(0.1, False)] * 12
    _, lacking = choose_rules(answers, "closed", np.array([0.5]), alpha=0.1, delta=0.1)
    assert lacking == [
        "selective answering (closed): at no threshold is a risk of at most 0.10 beyond doubt; as answers went here, some "
        "44 pictures to choose on would do: 20 more"
    ]


def test_measured_on_other_answers() -> None:
    """Four answers of two claims: kept over 0.5 are 2 + 1 + 1 + 0 of 8, false among them one, in the third."""
    made = [
        Judged(0.6, True, np.array([0.9, 0.6]), np.array([True, True])),
        Judged(0.1, False, np.array([0.8, 0.1]), np.array([True, False])),
        Judged(0.2, False, np.array([0.7, 0.2]), np.array([False, True])),
        Judged(0.3, True, np.array([0.3, 0.4]), np.array([True, True])),
    ]
    assert measure_rule(replace(FILTER, threshold=0.5), made) == {
        "risk": 0.25, "coverage": 0.5, "true_kept": 0.5, "n": 4.0,
    }  # fmt: skip
    assert measure_rule(replace(SHARE, threshold=0.5), made)["risk"] == 0.125
    assert measure_rule(replace(SELECTIVE, threshold=0.2), made) == {"risk": 1 / 3, "coverage": 0.75, "n": 4.0}


def test_thresholds_to_walk_are_few_and_from_the_scores() -> None:
    scores = np.random.default_rng(0).random(5_000)
    walk = thresholds_to_walk(scores)
    assert len(walk) <= 60 and set(walk) <= set(scores)
    assert (walk[0], walk[-1]) == (scores.min(), scores.max())


# Learning


def answers_about(pictures: int, *, wrong: float, seed: int = 0) -> list[Known]:
    """A description with three claims and one yes or no about each picture."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(pictures):
        for kind, many in (("open", 3), ("closed", 1)):
            true = rng.random(many) >= wrong
            evidence = [{"verification": float(rng.normal(2 if t else -1, 1.5)), "polarity": 1.0} for t in true]
            made = tuple(Claim("x", 0, 1, "x", 0.5, "unverified", one) for one in evidence)
            found.append(Known(f"{number}.png", kind, made, tuple(map(bool, true))))
    return found


def test_no_picture_is_in_two_splits() -> None:
    names = [f"{i // 3}.png" for i in range(300)]
    where = split_of(names, 5)
    assert len(where) == 100
    assert {part: list(where.values()).count(part) for part in ("fit", "choose", "report")} == {
        "fit": 40, "choose": 40, "report": 20,
    }  # fmt: skip
    assert split_of(names, 5) == where != split_of(names, 6)


def test_learning_finds_rules_that_hold_on_the_third_split() -> None:
    found = learn(answers_about(800, wrong=0.25), alpha=0.1, delta=0.1, seed=0)
    assert {(rule.name, rule.answers) for rule in found.rules} == {
        ("selective", "closed"), ("set", "closed"), ("filter", "open"), ("share", "open"),
    }  # fmt: skip
    assert found.lacking == ()
    assert found.images == {"fit": 320, "choose": 320, "report": 160}
    assert found.claims["report"] == 160 * 4
    assert found.report["auroc/fusion"] > 0.9
    for rule in found.rules:
        assert rule.n == 320
        # 160 pictures: alpha 0.1, and three standard deviations of a share on them, 0.07.
        assert rule.measured["risk"] <= 0.17
        assert rule.measured["coverage"] > 0.3
    assert learn(answers_about(800, wrong=0.25), alpha=0.1, delta=0.1, seed=0) == found


def test_claims_that_nobody_can_judge_take_no_part() -> None:
    known = answers_about(300, wrong=0.25)
    doubtful = [replace(one, claims=one.claims * 2, true=one.true + (None,) * len(one.true)) for one in known]
    assert learn(doubtful, alpha=0.1, delta=0.1, seed=1).claims == learn(known, alpha=0.1, delta=0.1, seed=1).claims


@pytest.mark.parametrize("wrong, told", [
    (0.0, "0 are false; at least 20 true and 20 false ones are needed"),
    (0.02, "are false; at least 20 true and 20 false"),
])  # fmt: skip
def test_too_few_false_claims_to_learn_from(wrong: float, told: str) -> None:
    with pytest.raises(DataError, match=told) as refused:
        learn(answers_about(100, wrong=wrong), alpha=0.1, delta=0.1, seed=0)
    assert "more pictures" in refused.value.hint


def test_contradicted_spares_true_claims() -> None:
    """2.5 % of them were struck on the choosing split; 6,000 fresh ones have a deviation of 0.2 points, the threshold 0.3."""
    known = answers_about(2_000, wrong=0.25)
    learned = learn(known, alpha=0.1, delta=0.1, seed=0)
    fusion = learned.fusion
    assert fusion.contradicted < fusion.supported
    fresh = answers_about(2_000, wrong=0.25, seed=9)
    hit = [
        (true, fusion.verdict(fusion.support(claim.evidence)) == "contradicted")
        for one in fresh
        for claim, true in zip(one.claims, one.true, strict=True)
    ]
    true_hit, false_hit = (np.mean([struck for true, struck in hit if true is wanted]) for wanted in (True, False))
    assert abs(true_hit - 0.025) < 0.01
    assert false_hit > 0.5
    assert learned.report["contradicted/true"] == pytest.approx(true_hit, abs=0.01)
    assert learned.report["contradicted/false"] == pytest.approx(false_hit, abs=0.05)


def test_the_manifest_shows_its_rules(small_bundle: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from edgereverie.cli.app import main

    store(small_bundle, calibration(small_bundle, replace(FILTER, measured={"risk": 0.08}), lacking=("SGR: 3 more",)))
    with pytest.raises(SystemExit):
        main(["bundle", "show", str(small_bundle.folder)])
    shown = " ".join(capsys.readouterr().out.split())
    assert "every kept claim true with probability >= 0.90" in shown and "risk 0.08" in shown and "SGR: 3 more" in shown
