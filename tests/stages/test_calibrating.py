"""Labelled pictures in, a calibrated bundle out: resumed, refused, and used by the answers that follow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgereverie import stages
from edgereverie.bundle import Bundle
from edgereverie.data.annotations import read_annotations
from edgereverie.data.annotations.base import Annotated, Box, Thing
from edgereverie.data.annotations.scenes import scene_of
from edgereverie.data.labelled import Labelled
from edgereverie.data.scenes.files import truth_row
from edgereverie.data.scenes.world import make_scene
from edgereverie.errors import BackendError, BundleError, DataError
from edgereverie.records import Answer, Claim, Options, Turn
from edgereverie.runtime.model import Model
from edgereverie.stages import calibrating

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
IMAGES = 80


@pytest.fixture(scope="module")
def starter_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained starter for onnxruntime."""
    from edgereverie.backbones import starter
    from edgereverie.export.base import load_profile
    from edgereverie.export.write import export_bundle

    pytest.importorskip("onnx_ir")
    out = tmp_path_factory.mktemp("bundles") / "starter"
    export_bundle(starter.shipped(), load_profile("onnx-fp32"), out, made_from={})
    return out


@pytest.fixture(scope="module")
def calibrated(starter_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it, calibrated on drawn scenes; its work folder lies beside."""
    bundle = shutil.copytree(starter_bundle, tmp_path_factory.mktemp("calibrated") / "starter")
    stages.calibrate(bundle, "scenes", images=IMAGES, seed=5)
    return bundle


def picture(calibrated: Path) -> Path:
    return calibrated.with_name("starter-calibration") / f"scenes-{IMAGES}-5" / "images" / "heldout" / "000000.png"


def test_the_bundle_is_whole_and_says_what_it_promises(calibrated: Path) -> None:
    bundle = Bundle.load(calibrated)
    assert bundle.faults() == []
    told = bundle.calibration
    assert told["artefact"] == bundle.fingerprint() and told["backend"] == "onnxrt"
    assert told["images"] == {"fit": 32, "choose": 32, "report": 16}
    assert told["data"].startswith("drawn scenes, 80 pictures")
    assert {rule["name"] for rule in told["rules"]} >= {"set", "filter", "share"}
    assert told["report"]["auroc/fusion"] > 0.7


def test_answers_state_the_rule_that_holds(calibrated: Path) -> None:
    with stages.open_model(str(calibrated)) as model:
        assert model.calibration is not None
        described = [Turn("user", "Describe the image.")]
        plain = model.answer(picture(calibrated), described, Options(), "none")
        flagged = model.answer(picture(calibrated), described, Options(), "flag")
        verified = model.answer(picture(calibrated), described, Options(), "verify")
        sure = model.answer(picture(calibrated), described, Options(), "abstain")
        sampled = model.answer(picture(calibrated), described, Options(temperature=0.5), "abstain")
        fusion = model.calibration.fusion
    # Without a picture's answers to short questions, which the rules were chosen with, nothing is promised.
    assert (plain.guarantee, flagged.guarantee, sampled.guarantee) == ("", "", "")
    assert flagged.text == plain.text
    assert verified.guarantee.startswith("of claims with support over ")
    for answer in (flagged, verified):
        assert answer.claims
        assert [one.support for one in answer.claims] == [
            fusion.support(one.evidence, one.kind) for one in answer.claims
        ]
    assert sure.abstained or sure.guarantee.startswith(
        "every kept claim true with probability >= 0.90, n = 32, artefact "
    )
    rule = next(one for one in Bundle.load(calibrated).calibration["rules"] if one["name"] == "filter")
    assert all(claim.support > rule["threshold"] for claim in sure.claims)


def test_another_backend_or_an_uncalibrated_bundle_has_no_rules(starter_bundle: Path, calibrated: Path) -> None:
    turns = [Turn("user", "Is there a ring?")]
    with stages.open_model(str(starter_bundle)) as model, pytest.raises(BackendError, match="was not calibrated"):
        model.answer(picture(calibrated), turns, Options(), "abstain")


def test_done_again_nothing_is_asked_and_the_result_is_the_same(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (calibrated / "bundle.json").read_bytes()
    monkeypatch.setattr(Model, "answer", lambda *_, **__: pytest.fail("asked again"))
    stages.calibrate(calibrated, "scenes", images=IMAGES, seed=5)
    assert (calibrated / "bundle.json").read_bytes() == before


def test_a_stopped_run_goes_on(calibrated: Path, starter_bundle: Path, tmp_path: Path) -> None:
    """All but the last pictures' answers are in the journal, those being written are cut short."""
    bundle, work = tmp_path / "starter", tmp_path / "starter-calibration"
    shutil.copytree(starter_bundle, bundle)
    shutil.copytree(calibrated.with_name("starter-calibration"), work)
    (journal,) = work.glob("answers-*.jsonl")
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join(lines[:-5]) + b"\n" + lines[-5][:30])
    stages.calibrate(bundle, "scenes", images=IMAGES, seed=5)
    rows = [json.loads(line)["answers"] for line in journal.read_text().splitlines()[1:]]
    kept = [answer["id"] for row in rows for answer in row]
    assert len(kept) == len(set(kept)) == 3 * IMAGES
    assert Bundle.load(bundle).calibration == Bundle.load(calibrated).calibration


def test_answers_to_other_questions_are_not_taken_over(calibrated: Path, tmp_path: Path) -> None:
    work = shutil.copytree(calibrated.with_name("starter-calibration"), tmp_path / "work")
    bundle = shutil.copytree(calibrated, tmp_path / "starter")
    with pytest.raises(DataError, match="Too little to learn from"):
        stages.calibrate(bundle, "scenes", images=4, seed=6, work=work)
    assert sorted(len(path.read_text().splitlines()) for path in work.glob("answers-*.jsonl")) == [
        1 + 4,
        1 + IMAGES,
    ]


def boxes(scenes: Path) -> list[tuple[str, int, list[tuple[str, list[float]]]]]:
    """Each picture of a scenes file with its size and the shapes' boxes, as people would have drawn them."""
    found = []
    for known in read_annotations(scenes / "scenes.jsonl"):
        things = [(one.name, list(one.box)) for one in known.things]
        found.append((known.image, known.width, things))
    return found


def test_coco_instances_calibrate_a_bundle(calibrated: Path, starter_bundle: Path, tmp_path: Path) -> None:
    """The drawn scenes told in COCO's form: objects and their numbers can be judged by it, colours and places cannot."""
    scenes = calibrated.with_name("starter-calibration") / f"scenes-{IMAGES}-5"
    names = sorted({name for _, _, things in boxes(scenes) for name, _ in things})
    images, annotations = [], []
    for number, (image, side, things) in enumerate(boxes(scenes), 1):
        images.append({"id": number, "file_name": image, "width": side, "height": side})
        for name, box in things:
            kind = names.index(name) + 1
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": kind, "bbox": box, "iscrowd": 0}
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    instances = tmp_path / "instances_val2014.json"
    instances.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    bundle = shutil.copytree(starter_bundle, tmp_path / "starter")
    stages.calibrate(bundle, str(instances), pictures=scenes / "images", images=IMAGES, seed=5)
    told = Bundle.load(bundle).calibration
    assert told["data"].startswith("instances_val2014.json, 80 pictures")
    assert told["report"]["auroc/fusion"] > 0.7 and told["rules"]
    with stages.open_model(str(bundle)) as model:
        answer = model.answer(picture(calibrated), [Turn("user", "Describe the image.")], Options(), "abstain")
    assert answer.abstained or "n = 32" in answer.guarantee


def test_data_that_proves_nothing_false_is_refused_before_anything_is_asked(
    calibrated: Path, tmp_path: Path, monkeypatch
) -> None:
    """Visual Genome lists what people noticed: what it does not name may be there all the same."""
    scenes = calibrated.with_name("starter-calibration") / f"scenes-{IMAGES}-5"
    rows = []
    for number, (image, _, things) in enumerate(boxes(scenes), 1):
        shutil.copy(scenes / "images" / image, tmp_path / f"{number}.jpg")
        objects = [{"object_id": 100 * number + i, "names": [name], **dict(zip("xywh", box, strict=True))}
                   for i, (name, box) in enumerate(things)]  # fmt: skip
        rows.append({"image_id": number, "objects": objects})
    (tmp_path / "objects.json").write_text(json.dumps(rows))
    monkeypatch.setattr(stages.calibrating, "open_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(DataError, match="no claim could be judged false") as refused:
        stages.calibrate(calibrated, str(tmp_path / "objects.json"))
    assert "COCO's instances" in refused.value.hint


def test_too_little_data_says_how_much_more_and_leaves_the_bundle(starter_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(starter_bundle, tmp_path / "starter")
    before = (bundle / "bundle.json").read_bytes()
    with pytest.raises(DataError, match=r"at least 20 true and 20\s+false ones are needed") as refused:
        stages.calibrate(bundle, "scenes", images=5)
    assert "more pictures" in refused.value.hint
    assert (bundle / "bundle.json").read_bytes() == before


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, calibrated: Path) -> None:
    with pytest.raises(BundleError, match="only a bundle can be calibrated"):
        stages.calibrate(tmp_path, "scenes")
    with pytest.raises(DataError, match="neither 'scenes' nor a file or folder"):
        stages.calibrate(calibrated, str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="both are probabilities"):
        stages.calibrate(calibrated, "scenes", alpha=1.5)
    with pytest.raises(BackendError, match="The guard verify goes by the calibration that is to be made"):
        stages.calibrate(calibrated, "scenes", images=IMAGES, seed=5, guard="verify,flag")


def claim(subject: str, polarity: float = 1.0, start: int = 0, **named: str) -> Claim:
    return Claim(subject, start, start + 1, subject, 0.5, "unverified", {"polarity": polarity}, **named)


def test_truth_of_objects() -> None:
    known = Annotated(
        "a.png", things=(Thing("ring", attributes=("red", "small")), Thing("dining table")),
        exhaustive=frozenset({"ring", "star", "dining table"}),
    )  # fmt: skip
    question, answer = Labelled("1", "a.png", "Describe it.", None, known), Answer("...")
    cases = {"ring": True, "red ring": True, "blue ring": False, "dining table": True, "star": False, "dog": None}
    for subject, true in cases.items():
        assert calibrating.truth(question, answer, claim(subject)) is true
        denied = calibrating.truth(question, answer, claim(subject, polarity=-1.0))
        assert denied is (None if true is None else not true)


def test_truth_of_counts_where_every_one_has_its_box() -> None:
    box = Box(0, 0, 4, 4)
    known = Annotated(
        "a.png", things=(Thing("dog", box), Thing("dog", box), Thing("cat", box, several=True), Thing("cup")),
        exhaustive=frozenset({"dog", "cat", "cup", "car"}),
    )  # fmt: skip
    question = Labelled("1", "a.png", "Describe it.", None, known)
    cases = {("dog", "There are two dogs."): True, ("dog", "There are three dogs."): False,
             ("cat", "There are two cats."): None, ("cup", "There are two cups."): None,
             ("sheep", "There are two sheep."): None}  # fmt: skip
    for (subject, statement), true in cases.items():
        one = claim(subject, kind="count", statement=statement)
        assert calibrating.truth(question, Answer("..."), one) is true
    elsewhere = claim("dog", kind="position", statement="The dog is at the left.")
    assert calibrating.truth(question, Answer("..."), elsewhere) is None


def test_truth_of_drawn_scenes_is_that_of_what_was_drawn(tmp_path: Path) -> None:
    """Through the file and back: the annotation makes the scene that was drawn."""
    scene = make_scene("7/heldout/0", 0.35, lone=3)
    path = tmp_path / "scenes.jsonl"
    path.write_text(json.dumps(truth_row(scene, "a.png")) + "\n")
    (known,) = read_annotations(path)
    assert scene_of(known).things == scene.things
    thing = scene.things[0]
    question = Labelled("1", "a.png", "Describe it.", None, known)
    for colour in ("red", "orange", "blue"):
        one = claim(thing.shape, kind="attribute", statement=f"The {thing.shape} is {colour}.")
        assert calibrating.truth(question, Answer("..."), one) is (thing.colour == colour)


def test_truth_of_yes_and_no() -> None:
    question = Labelled("1", "a.png", "Is there a cat?", yes=False)
    assert calibrating.truth(question, Answer("No."), claim("cat", -1.0)) is True
    assert calibrating.truth(question, Answer("Yes, a cat."), claim("cat")) is False
    assert calibrating.truth(question, Answer("No, a dog."), claim("dog", start=4)) is None  # nobody asked
    assert calibrating.truth(question, Answer("Perhaps."), claim("cat")) is None


def test_answers_without_claims_are_counted() -> None:
    question = Labelled("1", "a.png", "Is there a cat?", yes=True)
    other = Labelled("2", "a.png", "Is there a dog?", yes=True)
    answers = {"1": Answer("Yes.", claims=(claim("cat"),)), "2": Answer("Hm.")}
    known, told = calibrating.judge([question, other], answers)
    assert [(one.kind, one.true) for one in known] == [("closed", (True,))]
    assert told == ", 1 answers with no claims left out"
    with pytest.raises(DataError, match="No answer made a claim"):
        calibrating.judge([other], answers)


def test_the_verb_hands_on_what_the_command_line_says(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from edgereverie.cli.app import main

    noted = {}

    def stage(folder: Path, data: str, **named: object) -> object:
        noted.update({"folder": folder, "data": data} | named)
        from edgereverie.runtime.calibration.record import Calibration
        from edgereverie.runtime.fusion import Fusion

        return Calibration("a" * 64, "llamacpp", "p", "made up", {"fit": 1}, {"fit": 2}, Fusion(), lacking=("more",))

    monkeypatch.setattr(stages, "calibrate", stage)
    with pytest.raises(SystemExit) as left:
        main(["calibrate", "b", "--data", "d.jsonl", "--alpha", "0.05", "--images", "9", "--guard", "contrast"])
    assert left.value.code in (0, None)
    assert noted == {
        "folder": Path("b"), "data": "d.jsonl", "pictures": None, "images": 9, "alpha": 0.05, "delta": 0.1,
        "guard": "contrast", "seed": 0, "backend": "auto", "work": None,
    }  # fmt: skip
    printed = capsys.readouterr()
    assert "wrote b/bundle.json" in printed.out
