"""The verbs of ``edgereverie data``, with real files in the forms that people have."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from edgereverie import stages
from edgereverie.data.catalogue import catalogue
from edgereverie.data.jsonl import read_pairs, read_samples, write_pairs, write_samples
from edgereverie.records import PreferencePair, Sample, Turn

Command = Callable[..., Any]
ASK = Turn("user", "Is there a ring?")
SAMPLES = [
    Sample("a", "a.png", (ASK, Turn("assistant", "Yes.")), source="here", polarity="positive"),
    Sample("b", "b.png", (ASK, Turn("assistant", "No, é 🙂 none.")), source="here", polarity="negative", licence="CC0"),
]
PAIRS = [PreferencePair("p", "a.png", (ASK,), "Yes.", "No.", reason="sampled")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (4, 4), colour).save(tmp_path / "images" / name)
    write_samples(tmp_path / "samples.jsonl", SAMPLES)
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    return tmp_path


def test_check_counts(command: Command, folder: Path) -> None:
    done = command("data", "check", str(folder / "samples.jsonl"), "--images", str(folder / "images"))
    assert (done.code, done.err) == (0, "")
    assert "2 records as edgereverie, 2 pictures" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["source", "here", "2"] in rows and ["polarity", "positive", "1"] in rows
    assert not any(row[0] == "manipulation" for row in rows)  # nobody has one
    done = command("data", "check", str(folder / "pairs.jsonl"))
    assert done.code == 0 and ["reason", "sampled", "1"] in [line.split() for line in done.out.splitlines()]
    assert "No picture was looked at" in done.out


def test_check_lists_every_fault_with_its_place(command: Command, folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"id": 3}\nnot json\n', encoding="utf-8")
    (folder / "images" / "b.png").unlink()
    done = command("data", "check", str(path), "--images", str(folder / "images"))
    assert done.code == 1
    lines = done.err.splitlines()
    assert "error: broken row: 2" in lines and "error: missing picture: 1" in lines
    assert any(line.startswith(f"  {path}:4: ") for line in lines) and any(
        line.startswith(f"  {path}:5: ") for line in lines
    )
    assert f"  {path}:3: (b) {folder / 'images' / 'b.png'}: no such image." in lines


def test_check_decodes_pictures_unless_it_is_to_be_quick(command: Command, folder: Path) -> None:
    (folder / "images" / "a.png").write_bytes((folder / "images" / "a.png").read_bytes()[:40])
    words = ("data", "check", str(folder / "samples.jsonl"), "--images", str(folder / "images"))
    done = command(*words)
    assert done.code == 1 and "error: unusable picture: 1" in done.err and "a.png" in done.err
    assert command(*words, "--quick").code == 0


def test_check_warns_without_failing(command: Command, folder: Path) -> None:
    again = [SAMPLES[0], *(Sample(f"c{n}", "a.png", SAMPLES[0].turns) for n in range(9)), SAMPLES[1]]
    again += [Sample(f"m{n}", None, (Turn("user", f"{n}?"), Turn("assistant", "Yes.</s>"))) for n in range(7)]
    write_samples(folder / "again.jsonl", again)
    done = command("data", "check", str(folder / "again.jsonl"))
    assert done.code == 0
    lines = done.err.splitlines()
    assert "warning: duplicate record: 9" in lines and "warning: markup in a turn: 7" in lines
    assert "  ... and 2 more; --json lists all." in lines
    assert "(a) stands here and 9 times more: c0:3, c1:4, c2:5, c3:6 and 5 more." in done.err


def test_check_finds_evaluation_pictures(command: Command, folder: Path) -> None:
    (folder / "pope.jsonl").write_text('{"question_id": 1, "image": "b.png", "text": "?", "label": "no"}\n')
    done = command("data", "check", str(folder / "samples.jsonl"), "--against", str(folder / "pope.jsonl"))
    assert done.code == 1 and "b.png is called like b.png of pope.jsonl." in done.err
    done = command("data", "check", str(folder / "samples.jsonl"), "--against", str(folder / "nothing"))
    assert done.code == 1 and "no such file or folder" in done.err


def test_check_counts_the_backbones_own_tokens(command: Command, folder: Path) -> None:
    """As chat.encode, the definition that training and runtimes share, makes them."""
    from edgereverie.chat import encode

    model = stages.model_folder("starter")
    ids, _ = encode(model.tokenizer(), model.chat, SAMPLES[0].turns, image_tokens=model.image.tokens)
    words = ("data", "check", str(folder / "samples.jsonl"), "--backbone", "starter")
    assert command(*words).code == 0
    done = command(*words, "--max-tokens", str(len(ids) - 1))
    assert done.code == 1 and f"(a) has {len(ids)} tokens for starter, {len(ids) - 1} fit." in done.err
    assert "(a) has" not in command(*words, "--max-tokens", str(len(ids))).err
    assert command("data", "check", str(folder / "samples.jsonl"), "--max-tokens", "9").code == 2


def test_check_for_machines(command: Command, folder: Path) -> None:
    (folder / "images" / "b.png").unlink()
    done = command("data", "check", str(folder / "samples.jsonl"), "--images", str(folder / "images"), "--json")
    found = json.loads(done.out)
    assert (done.code, done.err, found["form"]) == (1, "", "edgereverie")
    assert found["counts"]["total"] == 2 and found["found"]["faults"] == {"missing picture": 1}
    assert [(fault["line"], fault["id"]) for fault in found["faults"]] == [(3, "b")]


def test_stats_are_told_and_printed(command: Command, folder: Path) -> None:
    done = command("data", "stats", str(folder / "samples.jsonl"))
    assert done.code == 0 and "lengths in words" in done.out and "name a backbone" in done.out
    rows = [line.split() for line in done.out.splitlines()]
    assert ["CC0", "1"] in rows and ["none", "1"] in rows and ["ring", "1", "1"] in rows
    assert ["existence", "1", "1", "0", "50.0%", "yes"] in rows
    found = json.loads(command("data", "stats", str(folder / "samples.jsonl"), "--json").out)
    assert found["yes_no"]["existence"] == {"yes": 1, "no": 1, "other": 0} and found["licences"] == {
        "none": 1,
        "CC0": 1,
    }
    told = command("data", "stats", str(folder / "samples.jsonl"), "--backbone", "starter")
    assert told.code == 0 and "lengths in tokens of starter" in told.out
    assert command("data", "stats", str(folder / "pairs.jsonl")).code == 0


def test_stats_tell_what_reading_dropped(command: Command, folder: Path) -> None:
    fixture = Path(__file__).parent.parent / "data" / "fixtures" / "reverie_generated.json"
    done = command("data", "stats", str(fixture))
    assert ["dropped", "judged", "contradictory", "1"] in [line.split() for line in done.out.splitlines()]


def test_preview_writes_one_page_and_replaces_none(command: Command, folder: Path) -> None:
    page = folder / "pages" / "p.html"
    words = ("data", "preview", str(folder / "samples.jsonl"), "--images", str(folder / "images"), "--out", str(page))
    done = command(*words, "-n", "1")
    assert (done.code, done.out) == (0, f"wrote {page}\n")
    written = page.read_text(encoding="utf-8")
    assert written.count("<article") == 1 and "data:image/png;base64," in written and "1 of 2 samples." in written
    done = command(*words)
    assert done.code == 1 and "exists already" in done.err and page.read_text(encoding="utf-8") == written
    assert command(*words, "--force").code == 0 and page.read_text(encoding="utf-8").count("<article") == 2
    done = command(
        "data", "preview", str(folder / "samples.jsonl"), "--images", "none", "--out", str(folder / "x.html")
    )
    assert done.code == 1 and "no such image folder" in done.err and not (folder / "x.html").exists()


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where data cards are not there yet, one that holds what it was given."""
    if importlib.util.find_spec("edgereverie.data.card") is not None:
        return
    module = ModuleType("edgereverie.data.card")

    def write_card(produced: Path, **told: Any) -> Path:
        path = produced.with_suffix(".card.json")
        told["counts"] = told["counts"].total
        path.write_text(json.dumps({"sha256": hashlib.sha256(produced.read_bytes()).hexdigest(), **told}))
        return path

    module.write_card = write_card  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "edgereverie.data.card", module)


@pytest.fixture
def parts(folder: Path) -> tuple[Path, Path]:
    """Two files of 30 and 10 samples; every third one of the first is negative, every one of the second."""
    for name, number, negative in (("a", 30, lambda n: n % 3 == 0), ("b", 10, lambda n: True)):
        samples = [
            Sample(f"{n}", f"{name}{n // 2}.png", (Turn("user", f"{name} {n}?"), Turn("assistant", "Yes.")), source=name,
                   polarity="negative" if negative(n) else "positive", licence="CC BY 4.0")
            for n in range(number)
        ]  # fmt: skip
        write_samples(folder / f"{name}.jsonl", samples)
    return folder / "a.jsonl", folder / "b.jsonl"


@pytest.mark.usefixtures("cards")
def test_mix_takes_everything_without_shares(command: Command, parts: tuple[Path, Path], folder: Path) -> None:
    out = folder / "new" / "mixed.jsonl"
    done = command("data", "mix", *map(str, parts), "--out", str(out))
    assert done.code == 0, done.err
    mixed = list(read_samples(out))
    assert len(mixed) == 40 and len({sample.id for sample in mixed}) == 40
    assert f"wrote {out}: 40 records, 20 pictures" in done.out
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert digest in (out.parent / "mixed.card.json").read_text(encoding="utf-8")
    done = command("data", "mix", *map(str, parts), "--out", str(out))
    assert done.code == 1 and "exists already" in done.err


@pytest.mark.usefixtures("cards")
def test_mix_with_shares_balance_and_validation(command: Command, parts: tuple[Path, Path], folder: Path) -> None:
    """a has 20 positive and 10 negative, b 10 negative: at 2 : 1, thirty records are 15 of each, 5 + 10 and 15 + 0."""
    out = folder / "mixed.jsonl"
    words = ("data", "mix", f"{parts[0]}=2", f"{parts[1]}=1", "--out", str(out), "--seed", "1", "--balance-polarity")
    done = command(*words, "--validation", "0.2")
    assert done.code == 0, done.err
    train, validation = list(read_samples(out)), list(read_samples(folder / "mixed.validation.jsonl"))
    both = [*train, *validation]
    assert [sum(sample.polarity == label for sample in both) for label in ("positive", "negative")] == [15, 15]
    assert [sum(sample.source == name for sample in both) for name in "ab"] == [20, 10]
    assert not {sample.image for sample in train} & {sample.image for sample in validation} and validation
    rows = [line.split() for line in done.out.splitlines()]
    assert [str(parts[0]), "20", "30", "5", "positive,", "5", "negative"] in rows and [
        str(parts[1]),
        "10",
        "10",
        "-",
    ] in rows
    assert (folder / "mixed.validation.card.json").is_file()
    before = out.read_bytes()
    assert command(*words, "--validation", "0.2", "--force").code == 0 and out.read_bytes() == before


@pytest.mark.usefixtures("cards")
def test_mix_splits_by_content_where_pictures_are_at_hand(command: Command, folder: Path) -> None:
    """Ten records of five pictures under two names each: with the folder, equal files are on one side."""
    samples = []
    for n in range(10):
        Image.new("RGB", (4, 4), (n // 2 * 40, 0, 0)).save(folder / "images" / f"n{n}.png")
        samples.append(Sample(f"{n}", f"n{n}.png", (Turn("user", f"{n}?"), Turn("assistant", "Yes."))))
    write_samples(folder / "s.jsonl", samples)
    out = folder / "m.jsonl"
    done = command("data", "mix", str(folder / "s.jsonl"), "--out", str(out), "--validation", "0.4", "--images",
                   str(folder / "images"))  # fmt: skip
    assert done.code == 0, done.err
    sides = [{int(sample.id) // 2 for sample in read_samples(path)} for path in (out, folder / "m.validation.jsonl")]
    assert not sides[0] & sides[1] and (len(sides[0]), len(sides[1])) == (3, 2)


def test_mix_refuses_before_it_writes(command: Command, parts: tuple[Path, Path], folder: Path) -> None:
    def said(*words: str) -> str:
        done = command("data", "mix", *words, "--out", str(folder / "m.jsonl"))
        assert done.code == 1 and not (folder / "m.jsonl").exists()
        return str(done.err)

    assert "holds preference pairs" in said(str(parts[0]), str(folder / "pairs.jsonl"))
    assert "asks for" in said(f"{parts[0]}=1", f"{parts[1]}=1", "--total", "30")
    assert "leaves one part empty" in said(str(parts[0]), "--validation", "0")
    assert "share of source 1" in said(f"{parts[0]}=-1")
    assert "no such file" in said(str(folder / "none.jsonl"))


def test_get_lists_what_there_is_with_licences(command: Command) -> None:
    done = command("data", "get")
    assert done.code == 0
    for name, entry in catalogue().items():
        assert name in done.out.splitlines() and f"    licence: {entry.licence}" in done.out.splitlines()


def test_get_offline_says_what_belongs_where(command: Command, tmp_path: Path) -> None:
    """The tests' environment is offline: HF_HUB_OFFLINE is set."""
    done = command("data", "get", "pope", "--out", str(tmp_path))
    assert done.code == 1 and "3 files are missing, and this run is offline" in done.err
    (entry,) = [catalogue()["pope"]]
    assert "licence: MIT" in done.out
    for file in entry.files:
        assert f"missing: {tmp_path / 'pope' / file.path}" in done.out and file.url in done.out
        assert f"sha256 {file.sha256}" in done.out and file.size in done.out
    assert not list(tmp_path.iterdir())
    done = command("data", "get", "pop")
    assert done.code == 1 and "Did you mean 'pope'?" in done.err


def test_get_offline_takes_what_was_placed_by_hand(command: Command, tmp_path: Path, golden: Path) -> None:
    (tmp_path / "chair").mkdir()
    (tmp_path / "chair" / "synonyms.txt").write_bytes((golden / "chair" / "synonyms.txt").read_bytes())
    done = command("data", "get", "chair", "--out", str(tmp_path), "--offline")
    assert done.code == 0, done.err
    assert "there already, 3,577 bytes, hash as known" in done.out
    (tmp_path / "chair" / "synonyms.txt").write_text("altered")
    done = command("data", "get", "chair", "--out", str(tmp_path), "--offline")
    assert done.code == 1 and "its SHA-256 is" in done.err


def test_get_unpacks_archives_where_their_content_belongs(command: Command, tmp_path: Path) -> None:
    done = command("data", "get", "mmvet", "--out", str(tmp_path), "--offline")
    assert done.code == 1 and f"an archive: --unpack puts its content into {tmp_path / 'mmvet'}" in done.out
    (tmp_path / "mmvet").mkdir()
    with zipfile.ZipFile(tmp_path / "mmvet" / "mm-vet.zip", "w") as packed:
        packed.writestr("mm-vet/mm-vet.json", "{}")
        packed.writestr("mm-vet/images/v1_0.png", b"1")
    done = command("data", "get", "mmvet", "--out", str(tmp_path), "--offline")
    assert done.code == 0 and "mm-vet.zip is an archive: --unpack" in done.out
    assert not (tmp_path / "mmvet" / "mm-vet.json").exists()
    for told in ("2 files unpacked", "unpacked before"):
        done = command("data", "get", "mmvet", "--out", str(tmp_path), "--offline", "--unpack")
        assert done.code == 0 and told in done.out
        assert (tmp_path / "mmvet" / "mm-vet.json").is_file() and (tmp_path / "mmvet" / "images" / "v1_0.png").is_file()


def test_get_puts_pictures_that_are_fetched_apart_beside_their_questions(command: Command, tmp_path: Path) -> None:
    done = command("data", "get", "amber-images", "--out", str(tmp_path), "--offline")
    assert f"missing: {tmp_path / 'amber' / 'AMBER.zip'}" in done.out
    assert f"--unpack puts its pictures into {tmp_path / 'amber' / 'images'}" in done.out


def test_get_shows_the_licence_before_it_fetches(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def refuse(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "get_data", refuse)
    done = command("data", "get", "reverie", "--out", str(tmp_path))
    assert done.code == 130 and "CC BY-NC 4.0" in done.out


def test_convert_there_and_back_keeps_the_samples(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "samples.jsonl"), str(folder / "llava.json"), "--to", "llava")
    assert done.code == 0 and done.out.startswith(f"wrote {folder / 'llava.json'}: 2 records as llava\n")
    rows = json.loads((folder / "llava.json").read_text(encoding="utf-8"))
    assert rows[0]["conversations"][0] == {"from": "human", "value": "<image>\nIs there a ring?"}
    command("data", "convert", str(folder / "llava.json"), str(folder / "back.jsonl"))
    assert [sample.turns for sample in read_samples(folder / "back.jsonl")] == [sample.turns for sample in SAMPLES]


def test_convert_pairs(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "pairs.jsonl"), str(folder / "p.json"), "--to", "preference")
    assert done.code == 0, done.err
    command("data", "convert", str(folder / "p.json"), str(folder / "back.jsonl"))
    (back,) = read_pairs(folder / "back.jsonl")
    assert (back.chosen, back.rejected, back.turns) == ("Yes.", "No.", (ASK,))


def test_convert_refuses_what_does_not_fit(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "pairs.jsonl"), str(folder / "x.json"), "--to", "llava")
    assert done.code == 1 and "holds preference pairs; the form 'llava' is for samples." in done.err
    done = command("data", "convert", str(folder / "samples.jsonl"), str(folder / "pairs.jsonl"))
    assert done.code == 1 and "exists already" in done.err
    assert not (folder / "x.json").exists()


def test_an_unknown_format_is_named(command: Command, folder: Path) -> None:
    done = command("data", "check", str(folder / "samples.jsonl"), "--format", "lava")
    assert done.code == 1 and "Did you mean 'llava'?" in done.err


def test_convert_knows_the_registered_forms(command: Command, folder: Path) -> None:
    done = command("data", "convert", str(folder / "samples.jsonl"), str(folder / "x.json"), "--to", "lava")
    assert done.code == 2 and "Did you mean 'llava'?" in done.err and "canonical, " in done.err


def test_convert_looks_for_pictures_and_tells_what_was_dropped(command: Command, folder: Path) -> None:
    words = (
        "data",
        "convert",
        str(folder / "samples.jsonl"),
        str(folder / "x.jsonl"),
        "--images",
        str(folder / "images"),
    )
    assert command(*words).code == 0
    (folder / "images" / "b.png").unlink()
    done = command(*words, "--force")
    assert done.code == 1 and "b.png" in done.err
    fixture = Path(__file__).parent.parent / "data" / "fixtures" / "reverie_generated.json"
    done = command("data", "convert", str(fixture), str(folder / "y.jsonl"))
    assert done.code == 0 and ["dropped", "judged", "contradictory", "1"] in [
        line.split() for line in done.out.splitlines()
    ]


def test_convert_passes_the_folder_for_embedded_pictures_on(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgereverie.data import load

    given: dict[str, Any] = {}
    real = load.load_samples

    def noting(path: Path, **options: Any) -> Any:
        given.update(options)
        options.pop("extract", None)
        return real(path, **options)

    monkeypatch.setattr(load, "load_samples", noting)
    words = ("data", "convert", str(folder / "samples.jsonl"), str(folder / "x.jsonl"))
    assert command(*words).code == 0 and "extract" not in given
    assert command(*words, "--force", "--extract", str(folder / "e")).code == 0 and given["extract"] == folder / "e"
