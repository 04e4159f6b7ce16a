"""The canonical files: what is written is read again, and whatever is wrong is told with its line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgereverie.data.faults import SHOWN
from edgereverie.data.jsonl import kind_of_file, read_pairs, read_samples, write_pairs, write_samples
from edgereverie.errors import DataError
from edgereverie.records import PreferencePair, Sample, Turn

HEADER = '{"edgereverie": "samples", "version": 1}\n'
PAIRS = HEADER.replace("samples", "pairs")
SAMPLE = {
    "id": "1",
    "image": "dog.jpg",
    "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A dog."}],
}
PAIR = {
    "id": "1",
    "image": "dog.jpg",
    "messages": [{"role": "user", "content": "What?"}],
    "chosen": "A dog.",
    "rejected": "A cat.",
}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t.strip() and "<image>" not in t)
images = st.none() | st.text("abcü 犬_-", min_size=1).map(lambda name: f"a/{name}.jpg")
polarities = st.none() | st.sampled_from(["positive", "negative"])


@st.composite
def samples(draw):
    rounds = draw(st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
    turns = [Turn("system", draw(texts))] if draw(st.booleans()) else []
    for question, answer in rounds:
        turns += [Turn("user", question), Turn("assistant", answer)]
    rationale = draw(polarities) if len(rounds) > 1 else None
    manipulation = draw(st.none() | st.sampled_from(["nonexistent", "existent", "knowledge"]))
    notes = [draw(st.just("") | texts) for _ in range(2)]
    return Sample(draw(texts), draw(images), tuple(turns), rationale, draw(polarities), manipulation, *notes)


@st.composite
def pairs(draw):
    chosen, rejected = draw(st.lists(texts, min_size=2, max_size=2, unique=True))
    image = draw(images)
    margin = draw(st.none() | st.floats(allow_nan=False, allow_infinity=False))
    return PreferencePair(
        draw(texts),
        image,
        (Turn("user", draw(texts)),),
        chosen,
        rejected,
        draw(st.just("") | texts),
        margin,
        draw(images) if image else None,
        draw(st.just("") | texts),
        draw(st.just("") | texts),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("jsonl") / "rows.jsonl"


@given(records=st.lists(samples(), max_size=4, unique_by=lambda sample: sample.id))
def test_samples_come_back_equal(path, records):
    assert write_samples(path, records) == len(records)
    assert list(read_samples(path)) == records


@given(records=st.lists(pairs(), max_size=4, unique_by=lambda pair: pair.id))
def test_pairs_come_back_equal(path, records):
    assert write_pairs(path, records) == len(records)
    assert list(read_pairs(path)) == records


def test_the_file_is_what_the_documentation_shows(tmp_path):
    sample = Sample("1", None, (Turn("user", "Grüß\nGott?"), Turn("assistant", "Ja.")), polarity="positive")
    write_samples(tmp_path / "a.jsonl", [sample])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == (
        '{"edgereverie": "samples", "version": 1}\n'
        '{"id": "1", "messages": [{"role": "user", "content": "Grüß\\nGott?"}, '
        '{"role": "assistant", "content": "Ja."}],'
        ' "polarity": "positive"}\n'
    )
    assert kind_of_file(tmp_path / "a.jsonl") == "samples"


def faults_of(path, content, read=read_samples) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError) as raised:
        list(read(path))
    return f"{raised.value} {raised.value.hint}"


def sample_with(**changes) -> str:
    return json.dumps({key: value for key, value in (SAMPLE | changes).items() if value is not ...}) + "\n"


def pair_with(**changes) -> str:
    return json.dumps({key: value for key, value in (PAIR | changes).items() if value is not ...}) + "\n"


USER, ANSWER = SAMPLE["messages"]

BROKEN = {
    "unknown key": (sample_with(polarty="positive"), ["rows.jsonl:3", "'polarty'", "Did you mean 'polarity'?"]),
    "missing key": (sample_with(messages=...), ["rows.jsonl:3", "'messages' is missing", "'image'"]),
    "misspelt key": (sample_with(messages=..., mesages=[]), ["'mesages'", "Did you mean 'messages'?"]),
    "number as text": (sample_with(id=7), ["'id' should be a string, it is a number (7)"]),
    "empty id": (sample_with(id="  "), ["'id' is empty"]),
    "no turns": (sample_with(messages=[]), ["should be a list of turns, it is []"]),
    "turn as text": (sample_with(messages=["What?"]), ["turn 1 is 'What?'"]),
    "bad role": (sample_with(messages=[USER, ANSWER | {"role": "asistant"}]), ["turn 2", "Did you mean 'assistant'?"]),
    "same role twice": (sample_with(messages=[USER, USER]), ["turn 2 is from the user, as is turn 1"]),
    "assistant first": (sample_with(messages=[ANSWER, USER]), ["turn 1 is from the assistant"]),
    "late system turn": (
        sample_with(messages=[USER, ANSWER, USER | {"role": "system"}]),
        ["turn 3 is from the system"],
    ),
    "question last": (sample_with(messages=[USER, ANSWER, USER]), ["the last turn is from the user"]),
    "empty turn": (sample_with(messages=[USER, ANSWER | {"content": "\n"}]), ["content of turn 2 is empty"]),
    "image marker": (sample_with(messages=[USER | {"content": "<image>\nWhat?"}, ANSWER]), ["turn 1 holds '<image>'"]),
    "half a character": (
        sample_with(messages=[USER, ANSWER | {"content": "\ud83d"}]),
        [r"half a character ('\ud83d')"],
    ),
    "unknown polarity": (sample_with(polarity="negativ"), ["'negativ'", "Did you mean 'negative'?"]),
    "polarity as list": (sample_with(polarity=["negative"]), ["'polarity' is ['negative']"]),
    "unknown manipulation": (sample_with(manipulation="none"), ["'none'", "knowledge, nonexistent"]),
    "rationale without answer": (sample_with(rationale="positive"), ["only one answer"]),
    "absolute image": (sample_with(image="/etc/dog.jpg"), ["'/etc/dog.jpg'", "does not stay inside"]),
    "windows image": (sample_with(image="C:\\dog.jpg"), ["does not stay inside"]),
    "escaping image": (sample_with(image="a/../../dog.jpg"), ["'a/../../dog.jpg'"]),
    "image address": (sample_with(image="https://dogs.org/1.jpg"), ["does not stay inside"]),
    "two images": (sample_with(image=["a.jpg", "b.jpg"]), ["a list of 2"]),
    "duplicate id": (sample_with(id="0"), ["rows.jsonl:3", "id '0' is taken by line 2"]),
    "key twice": ('{"id": "1", ' + sample_with()[1:], ["key 'id' stands twice"]),
    "not an object": ("[1, 2]\n", ["expected an object, found a list ([1, 2])"]),
    "two objects": (sample_with().strip() + sample_with(), ["stands behind the object"]),
    "not JSON": ("{'id': 1}\n", ["rows.jsonl:3: not JSON", "column 2"]),
    "cut short": (sample_with()[:50], ["rows.jsonl:3: the file ends in the middle of this line", "incomplete"]),
    "cut in a character": (HEADER.encode() + b'{"id": "\xc3', ["rows.jsonl:2", "middle of a character"]),
    "not UTF-8": (
        (HEADER + sample_with(id="caf#")).encode().replace(b"#", b"\xe9"),
        ["rows.jsonl:2: not UTF-8 (byte 0xE9"],
    ),
    "NaN": ('{"id": NaN}\n', ["NaN is no JSON number"]),
    "too deep": ("[" * 100_000 + "\n", ["rows.jsonl:3", "nested too deeply"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sample_names_its_line_and_its_fault(path, name):
    broken, expected = BROKEN[name]
    told = faults_of(path, broken if isinstance(broken, bytes) else HEADER + sample_with(id="0") + broken)
    assert all(part in told for part in expected), told


BROKEN_PAIRS = {
    "margin as text": (pair_with(margin="0.5"), "'margin' should be a number, it is a string"),
    "margin true": (pair_with(margin=True), "it is true or false"),
    "margin too large": (pair_with(margin=10**400), "Write a finite number"),
    "margin overflows": (pair_with(margin=0.5).replace("0.5", "1e999"), "'margin' is inf"),
    "same answers": (pair_with(rejected="A dog."), "'chosen' and 'rejected' are the same ('A dog.')"),
    "answer in prompt": (pair_with(messages=SAMPLE["messages"]), "the last turn is from the assistant"),
    "no rejected": (pair_with(rejected=...), "'rejected' is missing"),
    "empty chosen": (pair_with(chosen=""), "'chosen' is empty"),
    "rejected image alone": (pair_with(image=..., rejected_image="a.jpg"), "'rejected_image' without 'image'"),
    "rejected image outside": (pair_with(rejected_image="../a.jpg"), "'rejected_image' is '../a.jpg'"),
    "rationale": (pair_with(rationale="positive"), "unknown key 'rationale'"),
}


@pytest.mark.parametrize("name", BROKEN_PAIRS)
def test_a_broken_pair_names_its_line_and_its_fault(path, name):
    broken, expected = BROKEN_PAIRS[name]
    told = faults_of(path, PAIRS + pair_with(id="0") + broken, read_pairs)
    assert "rows.jsonl:3: " in told and expected in told, told


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file is empty"),
        (PAIRS, "holds 'pairs', expected 'samples'"),
        (sample_with(), "no header"),
        (HEADER.replace("1", "9"), "version 9; this edgereverie reads version 1"),
        (HEADER.replace(', "version": 1', ""), "version None"),
        (HEADER.replace("1", "true"), "version True"),
        (HEADER.replace("}", ', "x": 1}'), "unknown key 'x'"),
        (HEADER[:20], "the file ends in the middle"),
        ("\x1f\x8b rubbish\n", "not JSON"),
    ],
)
def test_a_wrong_header_is_told(path, content, expected):
    told = faults_of(path, content)
    assert expected in told and f"{path}:1: " in told


def test_all_faults_are_told_at_once_and_no_record_follows_the_first(path):
    rows = [sample_with(id=str(n)) if n == 0 else sample_with(id=str(n), polarity="?") for n in range(SHOWN + 6)]
    path.write_text(HEADER + "".join(rows) + sample_with(id="last"))
    given, reading = [], read_samples(path)
    with pytest.raises(DataError) as raised:
        given.extend(iter(lambda: next(reading), None))
    assert [sample.id for sample in given] == ["0"]
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{path}: {SHOWN + 5} faults." and lines[-1] == "... and 5 more."
    assert lines[1].startswith(f"{path}:3: ") and lines[SHOWN].startswith(f"{path}:{SHOWN + 2}: ")


def test_windows_line_ends_blank_lines_and_byte_order_mark_are_no_faults(path):
    content = (HEADER + "\n" + sample_with() + "\n").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert [sample.id for sample in read_samples(path)] == ["1"]


def test_a_bad_record_is_not_written_and_the_old_file_stays(tmp_path):
    path = tmp_path / "a.jsonl"
    good = Sample("1", "dog.jpg", (Turn("user", "What?"), Turn("assistant", "A dog.")))
    write_samples(path, [good])
    for bad in (good, replace(good, id="2", image="/dog.jpg"), replace(good, id="", turns=good.turns[:1])):
        with pytest.raises(DataError, match="record 2"):
            write_samples(path, [good, bad])
    assert list(read_samples(path)) == [good] and [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        next(read_samples(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="cannot be read"):
        next(read_samples(tmp_path))
