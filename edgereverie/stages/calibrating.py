"""Labelled pictures to a bundle that says how sure it is, and which error rate it promises."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.bundle import MANIFEST, write_text
from edgereverie.errors import BackendError, BundleError, DataError
from edgereverie.records import Answer, Claim, Options, Prediction, Turn, as_json
from edgereverie.stages._console import bar, console
from edgereverie.stages.backbones import open_model
from edgereverie.stages.data import draw_scenes

if TYPE_CHECKING:
    from edgereverie.data.annotations.base import Annotated
    from edgereverie.data.labelled import Labelled
    from edgereverie.runtime.calibration.learning import Known
    from edgereverie.runtime.calibration.record import Calibration
    from edgereverie.runtime.model import Model

SCENES = "scenes"
DRAWN = 600
OPTIONS = Options(max_tokens=160)
_JUDGING = ("verify", "rollback")


def calibrate(
    folder: Path,
    data: str,
    *,
    pictures: Path | None = None,
    images: int | None = None,
    alpha: float = 0.1,
    delta: float = 0.1,
    guard: str = "none",
    seed: int = 0,
    backend: str = "auto",
    work: Path | None = None,
) -> Calibration:
    """Ask the bundle's model about labelled pictures, learn a fusion and rules, and write them into its manifest.

    data: ``scenes``, or what ``data.labelled`` reads. pictures: the image root; by default ``images`` beside the file, or the
    file's own folder. work: where answers are kept as they come, so that a stopped run goes on; beside the bundle by default.
    Raises DataError for too little data, with how much more is needed.
    """
    from edgereverie.data.labelled import pictures_of
    from edgereverie.runtime.calibration.learning import learn
    from edgereverie.runtime.calibration.record import Calibration, identity, store

    if not (0 < alpha < 1 and 0 < delta < 1):
        raise DataError(f"alpha is {alpha}, delta {delta}; both are probabilities.", hint="Give 0.1, say.")
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"{folder}: only a bundle can be calibrated.", hint="Export the model first: edgereverie export"
        )
    work = work or folder.resolve().with_name(f"{folder.resolve().name}-calibration")
    questions, root, told = _questions(data, pictures, images, seed, work)
    _require_falsifiable(questions, told)
    with open_model(str(folder), backend=backend) as model:
        mine = identity(model)
        answers = ask(model, questions, root, guard=guard, work=work)
        bundle = model.bundle
    known, left_out = judge(questions, answers)
    found = learn(known, alpha=alpha, delta=delta, seed=seed)
    calibration = Calibration(
        **mine,
        data=f"{told}, {len(pictures_of(questions)):,} pictures{left_out}",
        images=found.images,
        claims=found.claims,
        fusion=found.fusion,
        rules=found.rules,
        lacking=found.lacking,
        guards=_before(guard),
        seed=seed,
        report=found.report,
    )
    store(bundle, calibration)
    write_text(work / "calibration.json", json.dumps(calibration.as_json(), indent=2) + "\n")
    return calibration


def _questions(
    data: str, pictures: Path | None, images: int | None, seed: int, work: Path
) -> tuple[list[Labelled], Path, str]:
    """The questions, their image root, and in words what they are."""
    from edgereverie.data.labelled import read_labelled

    path = Path(data)
    if data == SCENES:
        count = images or DRAWN
        path = work / f"scenes-{count}-{seed}"
        if not path.is_dir():
            draw_scenes(path, train=0, heldout=count, seed=seed, companion_share=0.7)
    elif not path.exists():
        raise DataError(f"{data}: neither {SCENES!r} nor a file or folder.", hint="Name labelled pictures, or: scenes")
    base = path if path.is_dir() else path.parent
    root = pictures or (base / "images" if (base / "images").is_dir() else base)
    return read_labelled(path, root, images=images, seed=seed), root, "drawn scenes" if data == SCENES else path.name


def _require_falsifiable(questions: Sequence[Labelled], told: str) -> None:
    """Before a model is asked for hours: data that only lists what people noticed can prove no claim false."""
    if all(one.known is not None and not one.known.exhaustive for one in questions):
        raise DataError(
            f"{told}: it tells what is in the pictures, and of nothing that it is not there, so no claim could be judged false.",
            hint="Calibrate on annotations of every object (COCO's instances), on questions with yes or no, or on scenes.",
        )


def ask(model: Model, questions: Sequence[Labelled], root: Path, *, guard: str, work: Path) -> dict[str, Answer]:
    """The answer to each question by its id, with the evidence of its claims; what a journal in ``work`` holds is not asked
    again. There is one for each artefact, guard and list of questions.

    Each question is a conversation of its own, answered greedily. All that a fusion may weigh is measured: abstain does
    that, and has no rule to follow yet. Raises BackendError for a guard that goes by the fusion itself.
    """
    from edgereverie.evaluation.journal import Journal
    from edgereverie.runtime.calibration.record import Calibration, identity
    from edgereverie.runtime.fusion import Fusion

    mine = identity(model)
    guards = ",".join([*_before(guard), "abstain"])
    told = json.dumps([mine, guards, as_json(OPTIONS), [(one.id, one.image, one.question) for one in questions]])
    mark = hashlib.sha256(told.encode()).hexdigest()
    kept = Journal(work / f"answers-{mark[:12]}.jsonl", mark)
    blank = Calibration(**mine, data="", images={}, claims={}, fusion=Fusion(negation=True))
    by_image: dict[str, list[Labelled]] = {}
    for one in questions:
        by_image.setdefault(one.image, []).append(one)
    before, model.calibration = model.calibration, blank
    try:
        with bar(f"calibrate {model.name}") as progress:
            for done, (image, asked) in enumerate(by_image.items()):
                progress(done, len(by_image))
                if missing := [one for one in asked if one.id not in kept.answers]:
                    said = [
                        model.answer(root / image, [Turn("user", one.question)], OPTIONS, guards) for one in missing
                    ]
                    kept.add(Prediction(one.id, replace(a, record=())) for one, a in zip(missing, said, strict=True))
            progress(len(by_image), len(by_image))
    finally:
        model.calibration = before
    return {one.id: kept.answers[one.id] for one in questions}


def _before(guard: str) -> tuple[str, ...]:
    """The guards that shape the answers. Raises BackendError for one that judges by what is only being learned."""
    from edgereverie.runtime.calibration.applying import working

    names = [name.strip() for name in guard.split(",")]
    if circular := [name for name in names if name in _JUDGING]:
        raise BackendError(
            f"The guard {circular[0]} goes by the calibration that is to be made.",
            hint="Calibrate without it. What is promised of the claims that stay holds with verify, too.",
        )
    return working(names)


def judge(questions: Sequence[Labelled], answers: dict[str, Answer]) -> tuple[list[Known], str]:
    """Each answer's claims with their truth, and in words how many answers had none that can be judged."""
    from edgereverie.runtime.calibration.applying import kind_of
    from edgereverie.runtime.calibration.learning import Known

    found, left_out = [], Counter()
    for one in questions:
        answer = answers[one.id]
        true = tuple(truth(one, answer, claim) for claim in answer.claims)
        if any(value is not None for value in true):
            found.append(Known(one.image, kind_of(answer), answer.claims, true))
        else:
            left_out["claims nobody can judge" if answer.claims else "no claims"] += 1
    if not found:
        raise DataError(
            "No answer made a claim that the data can judge.", hint="Use --guard flag, and data with objects."
        )
    told = "".join(f", {many:,} answers with {what} left out" for what, many in left_out.items())
    return found, told


def truth(question: Labelled, answer: Answer, claim: Claim) -> bool | None:
    """Whether the claim is true: by what is known of the picture, or by the right answer of yes and no."""
    from edgereverie.text.asking import says_yes

    if question.known is None:
        said = says_yes(answer.text)
        return None if said is None or claim.start > 0 else said == question.yes
    if question.known.source == "scenes":
        from edgereverie.data.annotations.scenes import scene_of
        from edgereverie.data.truth import true_of

        return true_of(scene_of(question.known), claim)
    if claim.kind == "object":
        return _there(claim, question.known)
    return _so_many(claim, question.known) if claim.kind == "count" else None


def _there(claim: Claim, known: Annotated) -> bool | None:
    """Whether the thing is there, or is not, as the claim has it."""
    *described, noun = claim.subject.split()
    named = [thing for thing in known.things if thing.name in (claim.subject, noun)]
    if not named and not known.exhaustive & {claim.subject, noun}:
        return None
    there = any(set(described) <= set(thing.attributes) or thing.name == claim.subject for thing in named)
    return there == (claim.evidence.get("polarity", 1.0) > 0)


def _so_many(claim: Claim, known: Annotated) -> bool | None:
    """Whether there are as many, where every single one was annotated with its box."""
    from edgereverie.text.claims import stated
    from edgereverie.text.counts import number_of

    named = [thing for thing in known.things if thing.name == claim.subject]
    number = number_of(stated(claim.statement).value)
    if number is None or claim.subject not in known.exhaustive or any(one.several or one.box is None for one in named):
        return None
    return (len(named) == number) == (claim.evidence.get("polarity", 1.0) > 0)


def summary(calibration: Calibration) -> None:
    """What was found out, for a person."""
    report = calibration.report
    console.print(f"data: {calibration.data}; pictures {_told(calibration.images)}, claims {_told(calibration.claims)}")
    for name, value in report.items():
        console.print(f"  {name}: {value:.3f}")
    for rule in calibration.rules:
        measured = ", ".join(f"{name} {value:.3g}" for name, value in rule.measured.items())
        console.print(f"rule: {calibration.words(rule)} (threshold {rule.threshold:.4f}; {measured})")
    for why in calibration.lacking:
        console.print(f"no rule: {why}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
