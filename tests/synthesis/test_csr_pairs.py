"""Rewards by hand, pairs from trees, and a search that is killed again and again."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import log
from pathlib import Path

import pytest

from edgereverie.data.jsonl import read_pairs
from edgereverie.errors import DataError
from edgereverie.records import Sample, Turn
from edgereverie.synthesis.csr import pairs
from edgereverie.synthesis.csr.reward import reward
from edgereverie.synthesis.csr.search import Settings
from edgereverie.synthesis.csr.trees import Node, Tree
from edgereverie.synthesis.inputs import Item
from edgereverie.synthesis.journal import Journal

_spec = importlib.util.spec_from_file_location("_toy", Path(__file__).parents[1] / "search" / "_toy.py")
_toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_toy)
ToyVoice, drawn = _toy.ToyVoice, _toy.drawn
ASK = (Turn("user", "What is it?"),)


def grown() -> Tree:
    """Two sentences side by side, two more behind the first: score, probability, relevance of each."""
    tree = Tree()
    tree.add(Node(0, "One.", score=-0.5, log_prob=log(0.5), relevance=20.0))
    tree.add(Node(0, "Two.", score=-0.4, log_prob=log(0.25), relevance=10.0, final=True))
    tree.add(Node(1, " And three.", score=-1.0, log_prob=log(0.2), relevance=5.0, final=True))
    tree.add(Node(1, " And four.", score=-2.0, log_prob=log(0.1), relevance=8.0, final=True))
    return tree


def test_the_papers_reward_is_a_sum_over_sentences() -> None:
    """0.9 * relevance + 0.1 * probability: One 18 + 0.05, Two 9 + 0.025, three 4.5 + 0.02, four 7.2 + 0.01."""
    worth = [reward(grown(), answer, "paper", 0.9) for answer in (2, 3, 4)]
    assert worth == pytest.approx([9.025, 18.05 + 4.52, 18.05 + 7.21])


def test_the_codes_reward_is_ranks_among_siblings_by_path_length() -> None:
    """By score: Two 1/2, One 2/2; three 1/2, four 2/2. By relevance: One 1/2, Two 2/2; four 1/2, three 2/2.

    Cost of One 0.1 * 1 + 0.9 * 0.5 = 0.55, Two 0.1 * 0.5 + 0.9 = 0.95, three 0.95, four 0.55. A path's nodes count the root.
    """
    worth = [reward(grown(), answer, "repo", 0.9) for answer in (2, 3, 4)]
    assert worth == pytest.approx([-0.95 / 2, -(0.55 + 0.95) / 3, -(0.55 + 0.55) / 3])


def test_the_best_answer_is_chosen_and_the_worst_rejected() -> None:
    item = Item("a.png", turns=ASK, licence="CC BY 4.0")
    found = pairs.paired(iter([("0123456789abcdef99", item, grown())]), "paper", 0.9)
    (pair,) = found.pairs
    assert (pair.chosen, pair.rejected) == ("One. And four.", "Two.")
    assert pair.margin == pytest.approx(25.26 - 9.025) and found.rewards == [pytest.approx((25.26, 9.025))]
    assert (pair.id, pair.reason, pair.source) == ("0123456789abcdef", "sampled", "csr")
    assert pair.turns == ASK and pair.licence == "CC BY 4.0"  # the question itself, no template around it
    # The code's ranks choose the same here, and reject by mean rank: One. And three. costs 0.5, Two. 0.475.
    (pair,) = pairs.paired(iter([("00" * 9, item, grown())]), "repo", 0.9).pairs
    assert (pair.chosen, pair.rejected) == ("One. And four.", "One. And three.")


def test_trees_without_a_pair_are_counted_by_reason() -> None:
    unended, single, tied = Tree(), Tree(), Tree()
    unended.add(Node(0, "One."))
    single.add(Node(0, "One.", final=True))
    for text in ("One.", "Two."):
        tied.add(Node(0, text, log_prob=-1.0, relevance=2.0, final=True))
    item = Item("a.png", turns=ASK)
    found = pairs.paired(iter([("00", item, tree) for tree in (unended, single, tied)]), "paper", 0.9)
    assert found.dropped == {pairs.NO_END: 1, pairs.EQUAL: 1, pairs.TIED: 1} and not found.pairs
    with pytest.raises(DataError, match=r"No pair came of 3 prompts: no answer came to its end \(1\)"):
        pairs.write_found(Path("x"), found, sources=[], model="", identity="", judge="", reward="", seed=0)


def asked(image: str | None, *questions: str) -> Sample:
    turns = [turn for text in questions for turn in (Turn("user", text), Turn("assistant", "Yes."))]
    return Sample(f"{image}{questions}", image, tuple(turns))


def test_prompts_are_the_first_questions_each_once_and_together_by_picture(tmp_path: Path) -> None:
    samples = [
        asked("a", "1?", "why?"),
        asked("b", "1?"),
        asked("a", "2?"),
        asked("a", "1?", "why not?"),
        asked(None, "3?"),
    ]
    found = pairs.prompts(samples, tmp_path, ask=(), most=None, seed=0)
    assert [(item.image, item.turns[-1].text) for item in found] == [("a", "1?"), ("a", "2?"), ("b", "1?")]
    assert found[0].turns == (Turn("user", "1?"),) and found[0].file == tmp_path / "a"


def test_prompts_from_a_list_give_each_picture_one_by_the_seed(tmp_path: Path) -> None:
    samples = [asked(f"{number}", "1?") for number in range(40)] + [asked("0", "2?")]
    ask = ("What?", "Describe it.")
    found, again, other = (pairs.prompts(samples, tmp_path, ask=ask, most=10, seed=seed) for seed in (1, 1, 2))
    assert found == again != other and len({item.image for item in found}) == len(found) == 10
    assert {item.turns[0].text for item in pairs.prompts(samples, tmp_path, ask=ask, most=None, seed=1)} == set(ask)
    with pytest.raises(DataError, match="no picture"):
        pairs.prompts([asked(None, "1?")], tmp_path, ask=ask, most=None, seed=0)


def items(folder: Path, number: int) -> list[Item]:
    folder.mkdir(exist_ok=True)
    found = []
    for at in range(number):
        (folder / f"{at}.png").write_bytes(b"picture %d" % at)
        found.append(Item(f"{at}.png", folder / f"{at}.png", ASK))
    return found


SETTINGS = Settings(diversity=1.0, sentence_tokens=4, characters=30)


def write(out: Path, some: list[Item], voice: ToyVoice, settings: Settings = SETTINGS, identity: str = "toy") -> Path:
    out.mkdir(exist_ok=True)
    with Journal(out / "search.jsonl") as journal:
        trees = pairs.searched(some, voice, settings, None, journal, identity, lambda done, total: None)
        found = pairs.paired(trees, "repo", 0.9)
    pairs.write_found(out / "pairs.jsonl", found, sources=["toy"], model="toy", identity=identity,
                      judge=pairs.IMAGE_GAIN, reward="repo", seed=0)  # fmt: skip
    return out / "pairs.jsonl"


def test_what_the_journal_holds_is_not_searched_again(tmp_path: Path) -> None:
    some, first, second = items(tmp_path / "images", 3), ToyVoice(drawn(1)), ToyVoice(drawn(1))
    before = write(tmp_path / "out", some, first).read_bytes()
    assert write(tmp_path / "out", some, second).read_bytes() == before and second.feeds == 0 < first.feeds
    # Another model, another setting or another picture under the same name is another search.
    for change in ({"identity": "other"}, {"settings": Settings(diversity=1.0, sentence_tokens=5, characters=30)}):
        voice = ToyVoice(drawn(1))
        write(tmp_path / "out", some, voice, **change)
        assert voice.feeds
    some[0].file.write_bytes(b"changed")
    changed = Item(some[0].image, some[0].file, ASK)  # a file is hashed once for each item
    voice = ToyVoice(drawn(1))
    write(tmp_path / "out", [changed, *some[1:]], voice)
    assert voice.feeds


def test_equal_pictures_are_asked_once_and_ids_differ(tmp_path: Path) -> None:
    some = items(tmp_path / "images", 3)
    (tmp_path / "images" / "twin.png").write_bytes(b"picture 0")
    twin = Item("twin.png", tmp_path / "images" / "twin.png", ASK)
    read = list(read_pairs(write(tmp_path / "out", [*some, twin], ToyVoice(drawn(1)))))
    assert len(read) == 3 == len({pair.id for pair in read})


def test_a_damaged_search_is_told(tmp_path: Path) -> None:
    some = items(tmp_path / "images", 1)
    write(tmp_path / "out", some, ToyVoice(drawn(1)))
    path = tmp_path / "out" / "search.jsonl"
    head, row = path.read_text().splitlines()
    path.write_text(f"{head}\n{json.dumps(json.loads(row) | {'text': '{}'})}\n")
    with pytest.raises(DataError, match="a search in the journal is damaged"):
        write(tmp_path / "out", some, ToyVoice(drawn(1)))


RUN = """
import importlib.util, sys, time
from pathlib import Path

spec = importlib.util.spec_from_file_location("here", sys.argv[4])
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)
rule = here.drawn(1)
def slowly(fed, seen):
    time.sleep(float(sys.argv[3]))
    return rule(fed, seen)
here.write(Path(sys.argv[2]), here.items(Path(sys.argv[1]), 30), here.ToyVoice(slowly))
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by POSIX signals")
def test_a_search_that_is_killed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    images, out, rng = tmp_path / "images", tmp_path / "killed", random.Random(3)
    items(images, 30)
    whole = write(tmp_path / "whole", items(images, 30), ToyVoice(drawn(1)))

    def start(pause: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", RUN, str(images), str(out), str(pause), __file__]
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})

    journal, lines = out / "search.jsonl", []
    for _ in range(6):
        child, before = start(1e-5), size(journal)
        wait_for(lambda before=before, child=child: size(journal) > before or child.poll() is not None)
        time.sleep(rng.uniform(0, 0.02))
        child.kill()
        assert child.wait() == -signal.SIGKILL, "it was faster than its killer"
        lines.append(size(journal))
        with journal.open("ab") as stream:  # what a power cut leaves
            stream.write(b'{"key": "00')
    assert lines == sorted(set(lines)) and not (out / "pairs.jsonl").exists()
    assert start(0.0).wait() == 0
    for name in ("pairs.jsonl", "pairs.card.json", "pairs.card.md", "search.jsonl"):
        assert (out / name).read_bytes() == (whole.parent / name).read_bytes()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.001)
