"""Checking a file: all that is wrong at once, each with its place; what is only doubtful is a warning."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgereverie.data import looks
from edgereverie.data.check import Checked, check
from edgereverie.data.conversations import doubts
from edgereverie.data.jsonl import write_pairs, write_samples
from edgereverie.data.leakage import bare_name, evaluation_pictures
from edgereverie.data.lengths import Lengths
from edgereverie.data.looks import MAX_BYTES, Look, digests, look_at_all
from edgereverie.errors import DataError
from edgereverie.records import PreferencePair, Sample, Turn

TURNS = (Turn("user", "What is it?"), Turn("assistant", "A bench."))
FIXTURES = Path(__file__).parent / "fixtures"


def paint(path: Path, seed: int, **options: object) -> Path:
    """A picture of soft noise: unlike that of any other seed, and alike when it is scaled or compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(3):
        paint(tmp_path / "images" / f"{index}.png", index)
    return tmp_path / "images"


def asking(index: int, image: str | None) -> Sample:
    """A sample whose question no other one asks."""
    return Sample(f"s{index}", image, (Turn("user", f"What is number {index}?"), TURNS[1]))


def checked(folder: Path, images: Sequence[str | None], **options: object) -> Checked:
    write_samples(folder / "s.jsonl", [asking(index, image) for index, image in enumerate(images)])
    return check(folder / "s.jsonl", images=folder / "images", **options)  # type: ignore[arg-type]


def told(found: Checked) -> list[tuple[str, int | None, str]]:
    return [(fault.kind, fault.place.line, fault.id) for fault in found.faults]


def test_a_sound_file_has_nothing_to_tell(tmp_path: Path, root: Path) -> None:
    found = checked(tmp_path, ["0.png", "1.png", "2.png", None])
    assert (found.form, found.counts.total, found.counts.images) == ("edgereverie", 4, 3)
    assert found.faults == () and found.warnings == ()


@pytest.mark.parametrize("quick", [False, True])
def test_broken_rows_and_missing_pictures_are_told_together(tmp_path: Path, root: Path, quick: bool) -> None:
    """The rows behind a broken one are looked at, too."""
    lines = [
        '{"edgereverie": "samples", "version": 1}',
        json.dumps({"id": "a", "image": "0.png", "messages": _messages("One?")}),
        '{"id": "b", "image": "1.png"}',
        "not json",
        json.dumps({"id": "c", "image": "none.png", "messages": _messages("Two?")}),
        json.dumps({"id": "a", "image": "2.png", "messages": _messages("Three?")}),
        json.dumps({"id": "d", "image": "../2.png", "messages": _messages("Four?")}),
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = check(tmp_path / "s.jsonl", images=root, quick=quick)
    assert [(fault.kind, fault.place.line) for fault in found.faults] == [
        ("broken row", 3), ("broken row", 4), ("missing picture", 5), ("broken row", 6), ("broken row", 7),
    ]  # fmt: skip
    assert "'messages' is missing" in found.faults[0].found and "none.png" in found.faults[2].found
    assert "'a' is taken by line 2" in found.faults[3].found and "image root" in found.faults[4].found


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]


def test_rows_of_a_published_form_have_line_and_record(tmp_path: Path) -> None:
    rows = json.loads((FIXTURES / "llava.json").read_text(encoding="utf-8"))
    rows[1]["conversations"][0]["from"] = "humam"
    (tmp_path / "a.json").write_text("[" + ",\n".join(map(json.dumps, rows)) + "]", encoding="utf-8")
    found = check(tmp_path / "a.json", format="llava")
    (fault,) = found.faults
    assert (fault.place.line, fault.place.record) == (2, 2) and "'humam'" in fault.found
    assert found.counts.total == len(rows) - 1


def test_preference_pairs_and_their_rejected_pictures(tmp_path: Path, root: Path) -> None:
    write_pairs(
        tmp_path / "p.jsonl",
        [
            PreferencePair("p", "0.png", TURNS[:1], "A bench.", "A chair.", rejected_image="lost.png"),
            PreferencePair("q", "1.png", TURNS[:1], "A bench.", "a bench"),
        ],
    )
    found = check(tmp_path / "p.jsonl", images=root)
    assert told(found) == [("missing picture", 2, "p")]
    assert [(warning.kind, warning.place.line) for warning in found.warnings] == [("sides hardly differ", 3)]


def spoilt(root: Path) -> dict[str, str]:
    """Files that are no use as pictures, and what is said of each."""
    whole = (root / "0.png").read_bytes()
    (root / "empty.png").touch()
    (root / "text.png").write_text("This is no picture.")
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "folder.png").mkdir()
    (root.parent / "secret.png").write_bytes(whole)
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "lost_link.png").symlink_to(root / "nowhere.png")
    (root.parent / "elsewhere").mkdir()
    shutil.copy(root / "0.png", root.parent / "elsewhere" / "x.png")
    (root / "outside").symlink_to(root.parent / "elsewhere", target_is_directory=True)
    with (root / "huge.png").open("wb") as stream:
        stream.write(whole)
        stream.truncate(MAX_BYTES + 1)
    os.mkfifo(root / "pipe.png")
    return {
        "empty.png": "the file is empty", "text.png": "not an image that can be read", "cut.png": "damaged or cut short",
        "folder.png": "this is a folder", "link.png": "leads out of the image root", "outside/x.png": "leads out of",
        "huge.png": "at most 268,435,456 are read", "pipe.png": "no such image", "lost_link.png": "no such image",
        "gone/9.png": "no such image", "0.png/x.png": "no such image", "a" * 300 + ".png": "name too long",
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_every_picture_that_is_of_no_use_is_told(tmp_path: Path, root: Path) -> None:
    expected = spoilt(root)
    found = checked(tmp_path, ["0.png", *expected])
    assert [fault.place.line for fault in found.faults] == list(range(3, 3 + len(expected)))
    for fault, (name, said) in zip(found.faults, expected.items(), strict=True):
        assert said in fault.found, name
        assert (fault.kind == "missing picture") == (name in ("gone/9.png", "0.png/x.png") or len(name) > 255), name
    quick = checked(tmp_path, ["0.png", *expected], quick=True)
    assert {fault.id for fault in found.faults} - {fault.id for fault in quick.faults} == {"s3"}  # the cut one


def test_links_inside_the_root_are_followed(tmp_path: Path, root: Path) -> None:
    (root / "here").symlink_to(root, target_is_directory=True)
    (root / "l.png").symlink_to(root / "1.png")
    assert checked(tmp_path, ["here/0.png", "l.png", "./2.png"], quick=True).faults == ()


def test_a_picture_of_a_million_pixels_a_side_is_refused_unread(tmp_path: Path, root: Path) -> None:
    """A PNG that claims a size: its header is read, nothing is decoded."""
    data = bytearray((root / "0.png").read_bytes())
    data[16:24] = (1_000_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (root / "bomb.png").write_bytes(data)
    (fault,) = checked(tmp_path, ["bomb.png"]).faults
    assert "bomb.png: the image has hundreds of millions of pixels; at most" in fault.found


def test_no_such_folder_and_no_such_file(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.jsonl", [asking(0, None)])
    with pytest.raises(DataError, match="no such image folder"):
        check(tmp_path / "s.jsonl", images=tmp_path / "none")
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "none.jsonl")


def test_many_pictures_are_read_by_processes_with_the_same_result(root: Path) -> None:
    paths = [str(root / f"{index % 3}.png") for index in range(300)] + [str(root / "gone.png")]
    steps: list[tuple[int, int]] = []
    shared = look_at_all(paths, lambda done, total: steps.append((done, total)), processes=2)
    assert shared == look_at_all(paths, processes=1)
    assert steps[-1] == (301, 301) and steps == sorted(steps)
    assert shared[0].sha256 == shared[3].sha256 != shared[1].sha256 and shared[-1].kind == "unusable picture"


def test_a_process_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(looks, "_look_at", _die)
    with pytest.raises(DataError, match="was killed"):
        look_at_all([str(root / "0.png")] * 300, processes=2)


def _die(_: Sequence[str]) -> list[Look]:
    os._exit(9)


def test_duplicates_in_a_file(tmp_path: Path, root: Path) -> None:
    shutil.copy(root / "0.png", root / "copy.png")
    with Image.open(root / "1.png") as picture:
        picture.resize((80, 60)).save(root / "small.jpg", quality=60)
    write_samples(
        tmp_path / "s.jsonl",
        [
            Sample("a", "0.png", TURNS), Sample("b", "copy.png", TURNS), Sample("c", "1.png", TURNS),
            Sample("d", "small.jpg", TURNS), Sample("e", "2.png", TURNS),
        ],
    )  # fmt: skip
    found = check(tmp_path / "s.jsonl", images=root)
    assert found.faults == ()
    assert {(warning.kind, warning.place.line) for warning in found.warnings} == {
        ("duplicate record", 2), ("pictures of equal content", 2), ("near-duplicate pictures", 4),
    }  # fmt: skip
    assert check(tmp_path / "s.jsonl", images=root, quick=True).warnings == ()


class TestLeakage:
    @pytest.fixture
    def evaluation(self, tmp_path: Path) -> Path:
        return paint(tmp_path / "eval" / "deep" / "0.png", 0).parent.parent

    def test_by_content_by_looks_and_not_by_name_alone(self, tmp_path: Path, root: Path, evaluation: Path) -> None:
        """2.png has the name of an evaluation picture and other content: a warning, no leak."""
        shutil.copy(root / "0.png", root / "other_name.png")
        with Image.open(root / "1.png") as picture:
            picture.resize((100, 75)).save(evaluation / "one.jpg", quality=70)
        paint(evaluation / "2.png", 99)
        found = checked(tmp_path, ["other_name.png", "1.png", "2.png"], against=[evaluation])
        assert told(found) == [("leak by content", 2, "s0"), ("leak by looks", 3, "s1")]
        assert "one.jpg" in found.faults[1].found
        assert [(warning.kind, warning.id) for warning in found.warnings] == [("same name, other picture", "s2")]

    def test_by_name_where_nothing_is_decoded(self, tmp_path: Path, root: Path, evaluation: Path) -> None:
        assert told(checked(tmp_path, ["0.png", "1.png"], against=[evaluation], quick=True)) == [
            ("leak by name", 2, "s0")
        ]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            (
                "pope.jsonl",
                '{"question_id": 1, "image": "COCO_val2014_000000004108.jpg", "text": "?", "label": "no"}\n',
            ),
            ("coco.json", '{"images": [{"id": 4108, "file_name": "000000004108.jpg"}], "annotations": []}'),
            ("chair.json", '[{"image_id": 4108, "caption": "A bench."}]'),
            ("names.txt", "\nval2014/COCO_val2014_000000004108.jpg\n"),
        ],
    )
    def test_files_that_name_pictures(self, tmp_path: Path, root: Path, name: str, content: str) -> None:
        """COCO's photograph 4108 has one name in 2014 and another in 2017; id 4107 is another photograph."""
        (tmp_path / name).write_text(content, encoding="utf-8")
        for image in ("train2017/000000004108.jpg", "000000004107.jpg"):
            paint(root / image, 7)
        found = checked(tmp_path, ["train2017/000000004108.jpg", "000000004107.jpg"], against=[tmp_path / name])
        assert told(found) == [("leak by name", 2, "s0")]

    def test_names(self) -> None:
        assert bare_name("a/b.c/Dog.JPEG") == "dog" and bare_name("COCO_train2014_1.jpg") == "coco_train2014_1"
        assert bare_name("v1.2") == "v1.2"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "names no picture"),
            ('{"a": 1}\n{"image": 3.5}', "names no picture"),
            ('{"a": 1}\n{"b"', ":2: not JSON"),
        ],
    )
    def test_a_file_without_names_is_refused(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            evaluation_pictures([tmp_path / "x.json"], decode=False)
        with pytest.raises(DataError, match="no such file or folder"):
            evaluation_pictures([tmp_path / "y.json"], decode=False)


@pytest.fixture
def lengths() -> Lengths:
    """A token is a word, and the picture eight; the word FORBIDDEN is not for this model."""

    def conversation(turns: Sequence[Turn], pictured: bool) -> int:
        if any("FORBIDDEN" in turn.text for turn in turns):
            raise DataError("Turn 1 holds the control token 'FORBIDDEN'.", hint="Remove it.")
        return sum(len(turn.text.split()) for turn in turns) + 8 * pictured

    return Lengths("words", conversation, lambda text: len(text.split()), 12)


def test_records_too_long_for_a_backbone(tmp_path: Path, root: Path, lengths: Lengths) -> None:
    """What is it? A bench.: five words, with a picture 13 tokens, one more than fit."""
    write_samples(
        tmp_path / "s.jsonl",
        [
            Sample("a", "0.png", TURNS),
            Sample("b", None, TURNS),
            Sample("c", None, (Turn("user", "FORBIDDEN"), Turn("assistant", "No."))),
        ],
    )
    found = check(tmp_path / "s.jsonl", lengths=lengths)
    assert told(found) == [("too long", 2, "a"), ("not for this backbone", 4, "c")]
    assert "has 13 tokens for words, 12 fit" in found.faults[0].found
    assert told(check(tmp_path / "s.jsonl", lengths=lengths, limit=13)) == [("not for this backbone", 4, "c")]
    pair = PreferencePair("p", None, TURNS[:1], "A.", "one two three")
    assert lengths.record(pair) == 3 + 3


def answering(text: str, question: str = "What is it?") -> list[str]:
    return [kind for kind, _, _ in doubts(Sample("1", None, (Turn("user", question), Turn("assistant", text))))]


LONG = "There is a bench under a tree in the park, and a dog lies on the grass beside it. "


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("A bench.", []),
        ("A dog.</s>", ["markup in a turn"]),
        ("Sure. ASSISTANT: A dog.", []),  # in the middle of a line it is text
        ("Sure.\nASSISTANT: A dog.", ["markup in a turn"]),
        ("[/INST] A dog.", ["markup in a turn"]),
        ("### Human: what?", ["markup in a turn"]),
        ("<|im_end|>", ["markup in a turn"]),
        ("3 < 4 and 5 > 4.", []),
        ("I'm sorry, but I cannot see the picture.", ["refusal"]),
        ("As an AI language model, I have no eyes.", ["refusal"]),
        ("I can see a dog.", []),
        ("The sign says cafÃ©.", ["damaged characters"]),
        ("The sign says â€œopenâ€\x9d.", ["damaged characters"]),
        ("A \ufffd.", ["damaged characters"]),
        ("Das Café ist schön — «ja».", []),
        ("犬がいます。", []),
        (LONG * 2, []),
        (LONG * 2 + "And the dog is", ["answer breaks off"]),
        (LONG * 4, ["answer goes in circles"]),
        ("What " * 3 + "short and cut", []),
    ],
)
def test_what_is_doubtful_in_an_answer(answer: str, kinds: list[str]) -> None:
    assert answering(answer) == kinds


def test_a_question_asked_twice_in_one_conversation() -> None:
    again = Sample("1", None, (*TURNS, *TURNS))
    assert [kind for kind, _, _ in doubts(again)] == ["question asked twice"]


def test_digests_are_those_of_the_files(root: Path) -> None:
    """As hashlib has it, of the whole file; nothing is decoded, so that two letters pass for a bitmap."""
    (root / "x.bmp").write_bytes(b"BM")
    found = digests(root, ["x.bmp", "0.png"])
    assert found["x.bmp"] == hashlib.sha256(b"BM").hexdigest()
    assert found["0.png"] == hashlib.sha256((root / "0.png").read_bytes()).hexdigest()
    with pytest.raises(DataError, match="no such image"):
        digests(root, ["gone.png"])


def test_json_of_a_check_can_be_read_back(tmp_path: Path, root: Path) -> None:
    found = json.loads(json.dumps(checked(tmp_path, ["0.png", "gone.png"]).as_json()))
    assert found["found"] == {"faults": {"missing picture": 1}, "warnings": {}}
    (fault,) = found["faults"]
    assert (fault["line"], fault["id"], fault["number"]) == (3, "s1", 1) and fault["fix"]


@pytest.mark.parametrize("seed", range(30))
def test_mutated_files_never_escape(tmp_path: Path, root: Path, seed: int) -> None:
    """Bytes flipped, cut out and doubled at random: every outcome is findings or one DataError."""
    rng = np.random.default_rng(seed)
    write_samples(tmp_path / "s.jsonl", [asking(index, f"{index % 3}.png") for index in range(12)])
    data = bytearray((tmp_path / "s.jsonl").read_bytes())
    for _ in range(int(rng.integers(1, 6))):
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 40))
        match int(rng.integers(3)):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
    (tmp_path / "s.jsonl").write_bytes(bytes(data))
    try:
        json.dumps(check(tmp_path / "s.jsonl", images=root, quick=True, against=[root]).as_json())
    except DataError as error:
        assert str(tmp_path) in str(error)
