"""What is noticed while a run goes on: by arithmetic, and in real runs."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
import torch
from rich.console import Console

from edgereverie.tuning import watch
from edgereverie.tuning.watch import Divergence, Frozen, Length, correlation


def test_divergence_is_three_losses_far_above_the_median_in_a_row() -> None:
    """Ten losses between 0.95 and 1.05: median 1.0, distance from it 0.05; far is above 1.5 and above 1.0 + 10 x 0.05."""
    seen = Divergence()
    assert not any(seen.see(loss) for loss in [0.95, 1.05] * 5)
    assert [bool(seen.see(loss)) for loss in (1.6, 1.6, 1.0)] == [False, False, False]  # it came back
    assert [bool(seen.see(loss)) for loss in (1.6, 1.7, 3.0)] == [False, False, True]
    assert "3 times its median of 1" in (seen.see(3.0) or "").replace("3.0", "3")


def test_a_noisy_loss_does_not_diverge() -> None:
    """Preference losses of single pairs jump between 0.1 and 0.9: the usual distance from the median is large."""
    seen, draw = Divergence(), random.Random(0)
    assert not any(seen.see(draw.uniform(0.1, 0.9)) for _ in range(500))


def test_a_model_that_does_not_move_is_frozen_unless_the_rate_is_nought() -> None:
    model, seen = torch.nn.Linear(3, 2), Frozen()
    assert [bool(seen.see(model, 1e-3)) for _ in range(4)] == [False, False, False, True]
    with torch.no_grad():
        model.bias += 1e-4
    assert seen.see(model, 1e-3) is None
    assert not any(seen.see(model, 0.0) for _ in range(5))


def test_correlation_by_hand() -> None:
    """Of (1, 2, 3) and (1, 3, 2): covariance 1, both spreads 2, so r = 0.5."""
    assert correlation((1.0, 2.0, 3.0), (1.0, 3.0, 2.0)) == pytest.approx(0.5)
    assert correlation((1.0, 1.0), (1.0, 3.0)) == 0.0


def test_a_margin_that_follows_length_is_noticed_and_one_that_does_not_is_not() -> None:
    """Margin = 0.1 x length difference + noise of the same spread: r = 1 / sqrt 2 = 0.71, over 100 batches 10 standard errors."""
    draw = random.Random(1)
    judge, fair = Length(), Length()
    lengths = [draw.gauss(0, 10) for _ in range(100)]
    told = [judge.see(length, 0.1 * length + draw.gauss(0, 1)) for length in lengths]
    assert told[-1] and "100 batches" in told[-1] and not any(told[:49])
    assert not any(fair.see(length, draw.gauss(1, 1)) for length in lengths)


def test_what_was_seen_before_a_stop_counts_after_it(tmp_path: Path) -> None:
    """49 batches before a stop say nothing, the 50th after it does; two still lines before it, and the third after."""
    draw = random.Random(1)
    pairs = [(length, 0.1 * length) for length in (draw.gauss(0, 10) for _ in range(50))]
    before, model = watch.Watch(tmp_path / "log.jsonl", Console(quiet=True), "train"), torch.nn.Linear(3, 2)
    assert not any(before.length.see(*pair) for pair in pairs[:49])
    assert not any(before.frozen.see(model, 1e-3) for _ in range(3))
    after = watch.Watch(tmp_path / "log.jsonl", Console(quiet=True), "train")
    after.remember(json.loads(json.dumps(before.memory())))
    assert "50 batches" in (after.length.see(*pairs[49]) or "")
    assert "over 3 logged lines" in (after.frozen.see(model, 1e-3) or "")


@pytest.fixture
def run(folder, samples, images, tmp_path: Path):
    """Run the trainer and give the log's lines and what the console said."""
    from edgereverie.tuning import trainer
    from edgereverie.tuning.methods.reflective import METHOD

    def train(recipe):
        told = Console(record=True, width=200, file=io.StringIO())
        answers = [sample for sample in samples if sample.rationale is None]
        trainer.run(recipe, METHOD, folder, answers, images, tmp_path / "run", console=told, counts={})
        return watch.entries(tmp_path / "run" / "log.jsonl"), told.export_text()

    return train


def test_a_run_without_labels_and_with_a_frozen_adapter_says_both(run, recipe) -> None:
    """Answers alone, which weigh nothing: every gradient is 0, and Adam moves nothing."""
    weightless = recipe(steps=5, schedule="constant", weights={"response": 0.0, "rationale": 1.0})
    lines, said = run(weightless)
    found = [(line["step"], notice["kind"]) for line in lines for notice in line.get("notices", ())]
    assert found == [(1, watch.NO_LABELS), (4, watch.FROZEN)]
    assert said.count("notice (no labels)") == 1 and "edgereverie data check" in said


def test_a_healthy_run_says_nothing_and_logs_speed_and_memory(trained: Path) -> None:
    lines = watch.entries(trained / "log.jsonl")
    assert not any("notices" in line for line in lines)
    assert all(line["tokens_per_second"] > 0 and line["peak_bytes"] > 10**8 for line in lines)


def test_the_pairs_lengths_are_counted_from_the_batch() -> None:
    """Two pairs: 3 and 1 tokens, 2 and 4 tokens; (2 - 2) / 2 = 0 longer. Rewards 0.5 and 0.2."""
    batch = {"pair": torch.tensor([0, 1]), "sequence": torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])}
    figures = {"reward_chosen": torch.tensor(0.5), "reward_rejected": torch.tensor(0.2)}
    assert watch._longer(batch, figures).tolist() == pytest.approx([0.0, 0.3])
    batch["sequence"] = torch.tensor([0, 0, 0, 1, 2, 2, 3])  # (2 + 1) / 2
    assert watch._longer(batch, figures).tolist() == pytest.approx([1.5, 0.3])
    assert watch._longer({"input_ids": batch["pair"]}, {}) is None


def test_a_stopped_run_does_not_say_again_what_it_said(tmp_path: Path) -> None:
    from transformers import TrainerControl, TrainerState

    log = tmp_path / "log.jsonl"
    line = {"step": 1, "loss": 1.0, "notices": [{"kind": watch.DIVERGENCE, "text": "x"}]}
    log.write_text(json.dumps(line) + "\n", encoding="utf-8")
    seen = watch.Watch(log, Console(quiet=True), "t")
    seen.on_train_begin(None, TrainerState(global_step=1, max_steps=2), TrainerControl())
    seen.progress.stop()
    assert seen.said == {watch.DIVERGENCE} and list(seen.divergence.losses) == [1.0]
