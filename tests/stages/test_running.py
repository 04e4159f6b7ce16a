"""What ``bench run`` measures: ratios of the same rounds, with and without the look at the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from edgereverie.cli.app import app
from edgereverie.errors import BackendError
from edgereverie.stages import bench_run
from edgereverie.stages.running import QUESTIONS, Way, interleaved, ratio, running


def test_cases_take_turns_and_the_first_round_is_left_out() -> None:
    order: list[str] = []

    def case(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved({"a": lambda: case("a"), "b": lambda: case("b")}, 2)
    assert order == ["a", "b"] * 3
    assert found == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert ratio([1.0, 8.0, 3.0], [1.0, 2.0, 1.0]) == 3.0


class Slept:
    """A model and a clock: a look takes 4 s, an answer 1 s, a guarded one 3 s."""

    class engine:
        backend, device = "slept", "cpu"

    class Said:
        tokens = 7

    def __init__(self) -> None:
        self.sight, self.seen, self.looks, self.now = self, False, 0, 100.0

    def perf_counter(self) -> float:
        return self.now

    def close(self) -> None:
        self.seen = False

    def look(self, image: object) -> None:
        if not self.seen:
            self.looks += 1
            self.now += 4
        self.seen = True

    def answer(self, image: object, turns: object, options: object, guard: str = "none") -> Slept.Said:
        self.look(image)
        self.now += 3 if guard == "slow" else 1
        return self.Said()


def test_ratios_are_those_of_the_times_that_were_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Slept()
    monkeypatch.setattr("edgereverie.stages.running.time", model)
    found = running(model, None, guards=["slow"], rounds=2)
    plain, slow = found.ways
    assert plain == Way("plain", 1.0, 1.0, 1.0, 7)
    assert slow == Way("slow", 3.0, 3.0, (4 + 3) / (4 + 1), 7)
    assert (found.look, found.once, found.apart, found.gain) == (4.0, 4 + 6, 6 * (4 + 1), 3.0)
    assert model.looks == 3 * (1 + 1 + len(QUESTIONS))


def test_the_starter_is_measured_by_the_command(tiny_folder: Path) -> None:
    arguments = ["bench", "run", str(tiny_folder), "--rounds", "1", "--max-tokens", "6", "--guards", "flag", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert [way["name"] for way in told["ways"]] == ["plain", "flag"]
    assert told["ways"][0]["ratio"] == 1.0 and 0 < told["ways"][0]["tokens"] <= 6
    assert told["backend"] == "hf" and told["apart"] > 0 and told["look"] > 0


def test_no_round_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(BackendError, match="No round"):
        bench_run("nowhere", rounds=0)
