"""The hallucination card: figures with where they come from, inside the bundle and beside the report, and never another's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from edgereverie import __version__
from edgereverie.bundle import Bundle, carded
from edgereverie.bundle.differences import differences
from edgereverie.bundle.packed import pack, unpack
from edgereverie.cli.app import app
from edgereverie.errors import BundleError, DataError
from edgereverie.evaluation.card import card_of, write_card
from edgereverie.evaluation.card_text import table
from edgereverie.evaluation.kept import KeptRun, keep, load
from edgereverie.evaluation.run import run_benchmark
from edgereverie.evaluation.source import Source
from edgereverie.records import Answer
from edgereverie.registry import BENCHMARKS

HOSTILE = "a ring|</td><script>x</script> [link](https://evil.example) `code`\n# head\x1b[2J"


def saying(text: str) -> Callable[[Path | None, Sequence[str], int], list[Answer]]:
    return lambda image, questions, room: [Answer(text) for _ in questions]


@pytest.fixture
def measured(folder: Path) -> Callable[..., KeptRun]:
    def run(artefact: str, text: str = "Yes, a ring and a cross.", **told: Any) -> KeptRun:
        runs = [run_benchmark(BENCHMARKS.get(name), Source(folder), saying(text)) for name in ("pope", "chair")]
        values = {"backend": "llamacpp", "guard": "none", "seed": 3, "versions": {"torch": "2.0"}} | told
        return KeptRun("tuned | Q8_0", artefact=artefact, **values, runs=tuple(runs))

    return run


def test_what_is_wrong_is_counted_with_its_interval(measured: Callable[..., KeptRun]) -> None:
    card = card_of(measured("ab" * 32), None)
    pope, chair = card["mistakes"]
    # Yes to all 27: 3 of 9 in each split are right. Pictures have 3, 6 and 9 of 9 answers wrong.
    assert (pope["scorer"], pope["wrong"], pope["n"], pope["value"]) == ("pope/official", 18, 27, 18 / 27)
    assert (pope["low"], pope["high"]) == (3 / 9, 9 / 9)
    assert [(part["part"], part["wrong"], part["n"]) for part in pope["parts"]] == [
        ("random", 6, 9), ("popular", 6, 9), ("adversarial", 6, 9),
    ]  # fmt: skip
    (kind,) = pope["kinds"]
    assert (kind["kind"], kind["wrong"]) == ("said yes to what is not there", 18)
    assert len(kind["examples"]) == 3 and kind["examples"][0]["answer"] == "Yes, a ring and a cross."
    # The caption names ring and cross: one is false of a (ring, star) and of b (cross), both of c (nothing): 3 of 3 captions.
    assert (chair["wrong"], chair["n"], chair["value"]) == (3, 3, 1.0)
    # All three are wrong, so the exact lower end: (2.5 %) ** (1 / 3), Clopper and Pearson's for 3 of 3.
    assert chair["low"] == pytest.approx(0.2924, abs=1e-4) and chair["high"] == 1
    (kind,) = chair["kinds"]
    assert (kind["kind"], kind["things"]) == ("not in the picture", {"cross": 2, "ring": 2})
    assert kind["examples"][0]["id"] == "c.png", "the one with most faults comes first"


def test_no_mistake_is_no_proof_that_there_are_none(measured: Callable[..., KeptRun]) -> None:
    chair = card_of(measured("", "Nothing."), None)["mistakes"][1]
    # 0 of 3 captions: the exact upper end is 1 - (2.5 %) ** (1 / 3).
    assert (chair["wrong"], chair["value"], chair["low"]) == (0, 0, 0) and chair["kinds"] == []
    assert chair["high"] == pytest.approx(0.7076, abs=1e-4)


def test_every_figure_names_its_scorer_its_number_and_what_was_asked(
    measured: Callable[..., KeptRun], tmp_path: Path
) -> None:
    kept = measured("ab" * 32, guard="flag")
    text, data = (path.read_text(encoding="utf-8") for path in write_card(kept, None, tmp_path / "out"))
    card = json.loads(data, parse_constant=pytest.fail)
    for one, run in zip(card["measured"], kept.runs, strict=True):
        assert one["scorer"] == run.results[0].scorer and one["rule"] and one["answers"] == len(run.items)
        assert (one["questions_sha256"], one["pictures_sha256"]) == (run.data, run.pictures)
        assert {score["metric"] for score in one["scores"]} == {score.metric for score in run.results[0].scores}
    ratio = next(
        score for score in card["measured"][0]["scores"] if score["metric"] == "pope/official/random/yes_ratio"
    )
    assert (ratio["value"], ratio["truth"], ratio["n"]) == (1.0, 3 / 9, 9)
    assert card["artefact"] | {"versions": 0} == {
        "label": "tuned | Q8_0", "fingerprint": "ab" * 32, "backend": "llamacpp", "guard": "flag", "seed": 3,
        "versions": 0, "calibration": "",
    }  # fmt: skip
    assert card["made_by"] == f"edgereverie {__version__}" and re.fullmatch(r"\d{4}-\d\d-\d\d", card["date"])
    for said in (
        "18 of 27 answers are wrong, in whole or in part: 66.7 % (33.3 to 100.0)", "`pope/official`", "guard flag", "n = 9",
        "33.3 % would be true", "None: what answered was not calibrated", "ababababab",
    ):  # fmt: skip
        assert said in text
    for line in text.splitlines():
        if "%" in line and not line.startswith("|"):
            assert re.search(r"\(\d|Intervals|n = ", line), f"a figure without its interval: {line}"
    told = " ".join(card["not_measured"])
    assert "How sure the model is" in told and "Other backends than llamacpp" in told
    absent = [name for name in BENCHMARKS.names() if name not in ("pope", "chair")]
    assert all(name in told for name in absent)


def test_texts_of_models_stay_texts(measured: Callable[..., KeptRun], tmp_path: Path) -> None:
    path, _ = write_card(measured("", HOSTILE, backend=HOSTILE, guard=HOSTILE), None, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text and "\x1b" not in text and not re.search(r"(?<!\\)\]\(https", text)
    assert "\n# head" not in text and text.count("\n# ") == 0
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert widths.setdefault("open", cells) == cells
        else:
            widths.clear()


@given(st.text())
def test_any_text_stays_inside_its_line_and_cell(text: str) -> None:
    (line,) = table(("a", "b"), [(text, "end")])[2:]
    assert line.isprintable() or "\u200d" in line or "\u200c" in line
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3 and "<" not in line


def test_it_goes_into_the_bundle_that_was_measured(
    small_bundle: Bundle, measured: Callable[..., KeptRun], tmp_path: Path
) -> None:
    before = small_bundle.fingerprint()
    paths = write_card(measured(before), small_bundle.folder, tmp_path / "out")
    bundle = Bundle.load(small_bundle.folder)
    assert bundle.fingerprint() == before, "a card describes the artefact and does not change it"
    assert [bundle.file(role).read_bytes() for role in ("card", "card_data")] == [path.read_bytes() for path in paths]
    assert not [fault for fault in bundle.faults() if "card" in fault.lower()]
    card = carded.read(bundle)
    assert card is not None and carded.stale(bundle, card) == "" and card["artefact"]["quantization"] == "Q8_0"
    changed = {key for key, _, _ in differences(small_bundle, bundle)}
    assert changed == {"files.card", "files.card_data"}
    # Written again, it replaces the first; nothing of the first stays behind.
    write_card(measured(before, "No."), small_bundle.folder, tmp_path / "out")
    again = Bundle.load(small_bundle.folder)
    assert carded.read(again)["measured"] != card["measured"]
    assert {path.name for path in small_bundle.folder.iterdir()} == {
        "bundle.json", *(file.path for file in again.files.values()),
    }  # fmt: skip


def test_packing_takes_it_along(small_bundle: Bundle, measured: Callable[..., KeptRun], tmp_path: Path) -> None:
    write_card(measured(small_bundle.fingerprint()), small_bundle.folder, tmp_path / "out")
    bundle = Bundle.load(small_bundle.folder)
    there = unpack(pack(bundle, tmp_path / "one.zip"), tmp_path / "there")
    assert carded.read(there) == carded.read(bundle)


def test_a_card_of_another_artefact_is_refused(
    small_bundle: Bundle, measured: Callable[..., KeptRun], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="was of artefact abababababab, this bundle is"):
        write_card(measured("ab" * 32), small_bundle.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists() and "card" not in Bundle.load(small_bundle.folder).files
    with pytest.raises(BundleError, match="the card is of artefact"):
        carded.attach(small_bundle, "", {"artefact": {"fingerprint": "ab" * 32}})


def test_a_changed_artefact_makes_it_stale_and_measuring_mends_that(
    small_bundle: Bundle, measured: Callable[..., KeptRun], tmp_path: Path
) -> None:
    write_card(measured(small_bundle.fingerprint()), small_bundle.folder, tmp_path / "out")
    bundle = Bundle.load(small_bundle.folder)
    other = replace(bundle.files["tokenizer"], sha256="0" * 64)
    changed = replace(bundle, files={**bundle.files, "tokenizer": other})
    changed.write()
    assert "measured on artefact" in carded.stale(changed, carded.read(changed) or {})
    write_card(measured(changed.fingerprint()), small_bundle.folder, tmp_path / "out")
    mended = Bundle.load(small_bundle.folder)
    assert carded.stale(mended, carded.read(mended) or {}) == ""


def test_a_wrong_card_is_a_fault_of_the_bundle(
    small_bundle: Bundle, measured: Callable[..., KeptRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of this bundle are no real ONNX ones; what is told of them is left out here."""
    monkeypatch.setattr("edgereverie.bundle._layout.faults", lambda bundle: [])
    write_card(measured(small_bundle.fingerprint()), small_bundle.folder, tmp_path / "out")
    bundle = Bundle.load(small_bundle.folder)
    bundle.check()
    path = bundle.file("card_data")
    card = json.loads(path.read_text(encoding="utf-8"))
    for content, said in (
        (json.dumps(card | {"artefact": card["artefact"] | {"fingerprint": "ab" * 32}}), "card is of artefact abababababab"),
        ("{", "cannot be read"), ("[]", "cannot be read"), (json.dumps(card | {"version": 99}), "not a version 1"),
    ):  # fmt: skip
        path.write_text(content, encoding="utf-8")
        from edgereverie.bundle import describe_file

        there = replace(bundle, files={**bundle.files, "card_data": describe_file(bundle.folder, "card.json")})
        there.write()
        with pytest.raises(BundleError, match=said):
            there.check()


def test_a_new_calibration_makes_it_stale_and_that_is_said(
    small_bundle: Bundle, measured: Callable[..., KeptRun], tmp_path: Path
) -> None:
    write_card(measured(small_bundle.fingerprint()), small_bundle.folder, tmp_path / "out")
    shown = CliRunner().invoke(app, ["bundle", "show", str(small_bundle.folder)])
    assert shown.exit_code == 0 and "hallucination card" in shown.output and "stale" not in shown.output
    calibration = {
        "version": 1, "artefact": small_bundle.fingerprint(), "backend": "llamacpp", "prompt": "p", "data": "drawn scenes",
        "images": {"fit": 10}, "claims": {}, "fusion": {}, "guards": [], "seed": 0, "report": {}, "lacking": ["no claims"],
        "rules": [{"name": "selective", "answers": "closed", "alpha": 0.1, "threshold": 0.75, "n": 120, "delta": 0.1,
                   "measured": {"risk": 0.08, "n": 60}}],
    }  # fmt: skip
    calibrated = replace(Bundle.load(small_bundle.folder), calibration=calibration)
    calibrated.write()
    assert not [fault for fault in calibrated.faults() if "card" in fault], "it can still be run and packed"
    assert (
        carded.stale(calibrated, carded.read(calibrated) or {})
        == "measured before the bundle was calibrated as it is now"
    )
    text, _ = write_card(measured(small_bundle.fingerprint()), small_bundle.folder, tmp_path / "out")
    told = text.read_text(encoding="utf-8")
    assert "| selective, closed answers | 0.7500 | 0.1, delta 0.1 | 120 | risk 0.08, n 60 |" in told
    assert "No rule: no claims" in told
    again = Bundle.load(small_bundle.folder)
    assert carded.stale(again, carded.read(again) or {}) == ""


def test_a_run_that_was_kept_gives_the_same_card(measured: Callable[..., KeptRun], tmp_path: Path) -> None:
    kept = measured("ab" * 32)
    (there,) = load(keep(tmp_path, kept))
    one, other = card_of(kept, None), card_of(there, None)
    assert other | {"artefact": 0} == one | {"artefact": 0}
    assert other["artefact"]["fingerprint"] == one["artefact"]["fingerprint"]
