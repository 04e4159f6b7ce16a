"""CSR in rounds on the shipped starter, in miniature: stopped, continued, prolonged, and on every backend."""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from edgereverie import stages
from edgereverie.bundle import Bundle, sha256_of
from edgereverie.data.jsonl import read_pairs
from edgereverie.errors import DataError, RecipeError, TrainError
from edgereverie.recipe import Data, Recipe, Source
from edgereverie.registry import BACKENDS
from edgereverie.stages import rounds, tuning


def recipe(rounds: int = 2, **csr: Any) -> Recipe:
    wanted = {"rounds": rounds, "ask": ("Describe the image.",), "prompts": 4, "beams": 3, "characters": 60,
              "sentence_tokens": 30} | csr  # fmt: skip
    return Recipe(
        name="tiny-rounds",
        backbone={"model": "starter", "quantization": "none"},
        data={"scenes": {"count": 5, "diet": "balanced", "seed": 3}},
        train={"method": "csr", "steps": 2, "batch_size": 2, "precision": "fp32", "learning_rate": 1e-3, "warmup": 0.0,
               "log_every": 1, "lora": {"rank": 4, "alpha": 8, "dropout": 0.0}, "csr": wanted},
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds that nothing disturbed."""
    out = tmp_path_factory.mktemp("rounds") / "done"
    assert stages.train(recipe(), out) == out / "round-2" / "model"
    return out


def weights(out: Path) -> str:
    return sha256_of(out / "model" / "model.safetensors")


def test_each_round_leaves_pairs_a_model_and_a_report(done: Path) -> None:
    for number in (1, 2):
        folder = done / f"round-{number}"
        told = json.loads((folder / "report.json").read_text())
        pairs = list(read_pairs(folder / "pairs.jsonl"))
        assert told["pairs"] == len(pairs) >= 2 and told["prompts"] == 4 == told["pairs"] + sum(
            told["dropped"].values()
        )
        assert told["reward"]["chosen"] > told["reward"]["rejected"] and told["train"]["step"] == 2
        assert told["reward"]["margin"] == pytest.approx(sum(pair.margin for pair in pairs) / len(pairs))
        assert {pair.reason for pair in pairs} == {"sampled"} and all(pair.chosen != pair.rejected for pair in pairs)
        assert all(turn.text == "Describe the image." for pair in pairs for turn in pair.turns)
        card = json.loads((folder / "pairs.card.json").read_text())
        assert card["teacher"]["judge"] == "the model's own image gain per token" and card["counts"]["reason"] == {
            "sampled": len(pairs)
        }
    assert weights(done / "round-1") != weights(done / "round-2")
    # The second round began where the first one ended.
    assert json.loads((done / "round-2" / "model" / "merge.json").read_text())["base"] == "model"
    assert len((done / "report.md").read_text().splitlines()) == 9


def test_stopped_anywhere_and_prolonged_later_it_ends_the_same(done: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out"
    stop = pytest.MonkeyPatch()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for where, name in ((tuning, "merge"), (rounds, "_last_line")):
        stop.setattr(where, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            stages.train(recipe(1), out)
        stop.undo()
    stages.train(recipe(1), out)
    first = out / "round-1"
    assert weights(first) == weights(done / "round-1")
    for name in ("pairs.jsonl", "pairs.card.json", "search.jsonl"):
        assert (first / name).read_bytes() == (done / "round-1" / name).read_bytes()  # equal seeds, equal bytes
    stamps = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert stages.train(recipe(2), out) == out / "round-2" / "model"
    assert stamps == {path: path.stat().st_mtime_ns for path in first.rglob("*")}  # a finished round is left alone
    assert weights(out / "round-2") == weights(done / "round-2")


def test_another_recipe_is_refused_and_a_finished_run_is_returned(done: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(rounds, "_round", lambda *_: pytest.fail("a finished round was begun again"))
    assert stages.train(recipe(), done) == done / "round-2" / "model"
    with pytest.raises(TrainError, match="another recipe"):
        stages.train(recipe(diversity=1.0), done)


def test_measuring_may_be_asked_for_later(done: Path, monkeypatch: Any) -> None:
    """After each round, all models so far in one report, the start first."""
    asked = []
    monkeypatch.setattr(rounds, "evaluate", lambda models, **named: asked.append((models, named)))
    stages.train(recipe(evaluate=True), done)
    first, second = (str(done / f"round-{number}" / "model") for number in (1, 2))
    assert [models for models, _ in asked] == [["starter", first], ["starter", first, second]]
    assert all(named["out"] == done / "evaluation" for _, named in asked)


def test_sides_of_different_length_are_told(capsys: Any) -> None:
    words = {"chosen": 13.0, "rejected": 10.0}
    for settings, told in (
        (recipe(), "the judge prefers them"),
        (recipe(reward="paper"), "set train.csr.reward to repo"),
    ):
        rounds._tell_of_length(words, settings.train.csr)
        assert "1.3 times as long" in (said := " ".join(capsys.readouterr().err.split())) and told in said
    rounds._tell_of_length({"chosen": 10.0, "rejected": 20.0}, recipe().train.csr)
    assert "0.5 times as long" in (said := " ".join(capsys.readouterr().err.split())) and "preference.normalise" in said
    rounds._tell_of_length(words | {"rejected": 11.0}, recipe().train.csr)
    assert not capsys.readouterr().err


@pytest.mark.skipif(find_spec("llama_cpp") is None, reason="the llamacpp backend needs llama_cpp")
def test_a_round_can_search_with_an_export(tmp_path: Path) -> None:
    """Half the prompts, so that it is short; the tree comes from the bundle, what learns is the model."""
    out = tmp_path / "out"
    assert stages.train(recipe(1, prompts=2, profile="gguf-q8-0"), out) == out / "round-1" / "model"
    (bundle,) = (out / "round-1" / "bundles").iterdir()
    card = json.loads((out / "round-1" / "pairs.card.json").read_text())
    assert card["teacher"]["identity"] == Bundle.load(bundle).fingerprint()


def test_pictures_are_needed(tmp_path: Path) -> None:
    from edgereverie.data.jsonl import write_samples
    from edgereverie.records import Sample, Turn

    path = tmp_path / "samples.jsonl"
    write_samples(path, [Sample("1", None, (Turn("user", "Why?"), Turn("assistant", "So.")))])
    for images, error, told in (
        (None, RecipeError, "no image folder"),
        (tmp_path, DataError, "no picture to ask about"),
    ):
        data = Data(train=(Source(path=path),), images=images)
        with pytest.raises(error, match=told):
            stages.train(recipe().model_copy(update={"data": data}), tmp_path / "out")


@pytest.fixture(scope="module")
def trees(done: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Search the same two prompts with what the backend runs: the starter itself, or a bundle of it."""
    from edgereverie.backbones import starter
    from edgereverie.export.base import load_profile
    from edgereverie.export.write import export_bundle
    from edgereverie.runtime.voice import ModelVoice
    from edgereverie.synthesis.csr.search import Settings, search

    out = tmp_path_factory.mktemp("bundles")
    pictures = sorted((done / "data" / "images" / "train").glob("*.png"))[:2]

    @cache
    def grow(backend: str, profile: str | None) -> list[Any]:
        place = "starter"
        if profile is not None:
            export_bundle(starter.shipped(), load_profile(profile), out / profile, made_from={})
            place = str(out / profile)
        with stages.open_model(place, backend=backend, precise=True) as model:
            voice = ModelVoice(model)
            turns = next(read_pairs(done / "round-1" / "pairs.jsonl")).turns
            return [search(path, turns, voice, Settings(characters=60), None) for path in pictures]

    return grow


@pytest.mark.parametrize(("backend", "profile"), [("onnxrt", "onnx-fp32"), ("llamacpp", "gguf-f16")])
def test_every_backend_finds_the_same_sentences(trees: Any, backend: str, profile: str) -> None:
    for package in BACKENDS.get(backend).packages:
        if find_spec(package) is None:
            pytest.skip(f"the {backend} backend needs {package}")
    for here, there in zip(trees("hf", None), trees(backend, profile), strict=True):
        assert [node.added for node in here.nodes] == [node.added for node in there.nodes]
        assert [node.final for node in here.nodes] == [node.final for node in there.nodes]
        for name in ("score", "log_prob", "relevance"):
            wanted, got = ([getattr(node, name) for node in tree.nodes] for tree in (here, there))
            assert got == pytest.approx(wanted, abs=0.05)
