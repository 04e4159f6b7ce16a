"""``edgereverie plan`` and ``train --dry-run``: what they print, and how they leave."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

RECIPE = "name: x\ndata: {scenes: {count: 6, diet: reflective}}\ntrain: {steps: 5, batch_size: 4}\n"


def test_plan_prints_a_table_for_each_card(command, recipe_file) -> None:
    done = command("plan", str(recipe_file(RECIPE)), "--card", "8", "--card", "24")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("plan x: ") and "5 steps of 1 x 4" in lines[0]
    head = next(line for line in lines if line.startswith("GB at the peak"))
    assert "8 GB (GeForce RTX 4060)" in head and "24 GB (GeForce RTX 3090)" in head
    assert lines[-2:] == ["8 GB (GeForce RTX 4060): fits.", "24 GB (GeForce RTX 3090): fits."]


def test_plan_as_json_adds_up(command, recipe_file) -> None:
    done = command("plan", str(recipe_file(RECIPE)), "--json", "--set", "train.batch_size=2")
    told = json.loads(done.out)
    (here,) = told["machines"]
    assert here["fits"] and here["set"] == [] and here["proposed"] is None
    assert here["estimate"]["peak_bytes"] == sum(here["estimate"]["parts"].values())
    assert told["steps"] == 5 and told["looked_at"] == told["records"]


def test_rounds_are_planned_as_the_training_of_one(command) -> None:
    """Six pictures, of which four are asked about: a pair each, both answers as long as the recipe lets them become."""
    settings = ["data.scenes.count=6", "train.csr.prompts=4", "train.epochs=1", "train.batch_size=2"]
    settings.append("train.csr.characters=200")
    words = [word for setting in settings for word in ("--set", setting)]
    done = command("plan", "starter/csr", "--card", "8", "--json", *words)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["records"], told["steps"]) == (4, 2)
    longer = json.loads(
        command("plan", "starter/csr", "--card", "8", "--json", *words[:-1], "train.csr.characters=400").out
    )
    assert longer["longest"] > told["longest"] + 20


def test_an_unknown_card_is_refused(command, recipe_file) -> None:
    done = command("plan", str(recipe_file(RECIPE)), "--card", "10")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-2:] == ["error: No card of 10 GB is known.", "hint: Name one of 8, 12, 16, 24."]


def test_what_does_not_fit_leaves_with_1_and_says_what_would(command, recipe_file, monkeypatch) -> None:
    from edgereverie.tuning import plan

    small = plan.Machine("a small card", True, "bf16", 60 * 2**20, 1e12, 0.0, 0)
    monkeypatch.setattr(plan, "named_card", lambda *_: small)
    done = command("plan", str(recipe_file(RECIPE)), "--set", "train.batch_size=16", "--card", "8")
    assert done.code == 1
    assert "a small card: does not fit. With these it would take" in done.out
    assert "--set train.gradient_checkpointing=true" in done.out.splitlines()[-1]


def test_a_dry_run_ends_with_the_plan_as_comments(command, recipe_file) -> None:
    done = command("train", str(recipe_file(RECIPE)), "--dry-run")
    assert done.code == 0 and done.out.rstrip().endswith("# this CPU: fits.")
    missing = command("train", str(recipe_file(RECIPE)), "--dry-run", "--set", "backbone.model=./nowhere")
    assert missing.code == 0 and "# no plan: " in missing.out
