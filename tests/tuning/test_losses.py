"""The loss against one computed from full logits by hand, and what never reaches the language model's head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgereverie.backbones.base import ModelFolder
from edgereverie.recipe import Train
from edgereverie.records import Sample, Turn
from edgereverie.tuning import losses as losses_of
from edgereverie.tuning.batch import Collate, Example, encode_sample
from edgereverie.tuning.losses import base_of, token_log_probs, weighted_negative_log_likelihood
from edgereverie.tuning.qlora import checkpoint_layers, place

WORDS = Sample("text", None, (Turn("user", "And without a picture?"), Turn("assistant", "Nothing is to be seen then.")))


@pytest.fixture(scope="module")
def model(folder: ModelFolder):
    return folder.load()


@pytest.fixture
def examples(folder: ModelFolder, samples: list[Sample], images: Path) -> list[Example]:
    return encoded(folder, [samples[0], WORDS, samples[1], samples[-1]], images)


@pytest.fixture
def batch(folder: ModelFolder, examples: list[Example]) -> dict[str, torch.Tensor]:
    return collated(folder, examples)


def encoded(folder: ModelFolder, samples: list[Sample], images: Path, rationale: float = 1.0) -> list[Example]:
    tokenizer = folder.tokenizer()
    return [encode_sample(s, folder, tokenizer, images, response=1.0, rationale=rationale) for s in samples]


def collated(folder: ModelFolder, examples: list[Example]) -> dict[str, torch.Tensor]:
    return Collate(folder.image, folder.config["text_config"]["pad_token_id"], longest=2048)(examples)


def full_logits(model, folder: ModelFolder, example: Example) -> torch.Tensor:
    """What the model's own forward says of one conversation alone. (tokens, vocabulary)."""
    alone = collated(folder, [example])
    with torch.no_grad():
        return model(input_ids=alone["input_ids"], pixel_values=alone.get("pixel_values")).logits[0]


def by_hand(model, folder: ModelFolder, examples: list[Example]) -> tuple[list[float], list[float]]:
    """(-log p, weight) of each label, from full logits: the label at t is predicted at t - 1."""
    losses, weights = [], []
    for example in examples:
        logits = full_logits(model, folder, example).double()
        for t in range(1, len(example)):
            if example.learned[t]:
                scores = logits[t - 1]
                losses.append(float(torch.logsumexp(scores, 0) - scores[int(example.ids[t])]))
                weights.append(float(example.weights[t]))
    return losses, weights


def test_the_loss_equals_cross_entropy_by_hand(model, folder, examples, batch) -> None:
    losses, _ = by_hand(model, folder, examples)
    assert len(losses) == len(batch["label"])
    with torch.no_grad():
        found = token_log_probs(model, batch)[batch["label"]]
        loss = weighted_negative_log_likelihood(model, batch, len(losses))
    torch.testing.assert_close(-found.double(), torch.tensor(losses, dtype=torch.float64), atol=1e-4, rtol=0)
    assert float(loss) == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_weights_scale_the_rationale_and_not_the_divisor(model, folder, samples, images) -> None:
    examples = encoded(folder, samples[:2], images, rationale=0.25)
    losses, weights = by_hand(model, folder, examples)
    assert set(weights) == {1.0, 0.25}
    with torch.no_grad():
        loss = weighted_negative_log_likelihood(model, collated(folder, examples), len(losses))
    assert float(loss) == pytest.approx(
        sum(a * b for a, b in zip(losses, weights, strict=True)) / len(losses), abs=1e-5
    )


def test_it_is_the_models_own_loss_when_all_weights_are_one(model, folder, examples) -> None:
    """transformers' loss for the same labels, which is LLaVA's: mean cross-entropy over the labelled tokens."""
    for example in examples:
        alone = collated(folder, [example])
        labels = torch.from_numpy(np.where(example.learned, example.ids, -100))[None]
        with torch.no_grad():
            theirs = model(input_ids=alone["input_ids"], pixel_values=alone.get("pixel_values"), labels=labels).loss
            ours = weighted_negative_log_likelihood(model, alone, int(example.learned.sum()))
        assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_only_what_predicts_reaches_the_head(model, batch) -> None:
    rows = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(tuple(inputs[0].shape)))
    try:
        with torch.no_grad():
            token_log_probs(model, batch)
    finally:
        hook.remove()
    targets = len(batch["target"])
    assert rows == [(targets, 256)] and targets < batch["input_ids"].numel() / 2


def test_logits_in_pieces_are_the_same_loss_and_gradients(folder, batch, monkeypatch) -> None:
    model = folder.load()
    place(model, Train(parts={"language_model": "full"}), folder.backbone)
    whole = gradients(model, [batch], len(batch["label"]))
    monkeypatch.setattr(losses_of, "_LOGITS", 7 * model.lm_head.out_features)
    rows = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    pieces = gradients(model, [batch], len(batch["label"]))
    hook.remove()
    assert max(rows) == 7 and sum(rows) == 2 * len(batch["target"]), "once forward, once more for the gradient"
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_a_batch_without_labels_is_no_division_by_zero(model, folder, examples) -> None:
    unlearned = [replace(example, learned=np.zeros_like(example.learned)) for example in examples]
    with torch.no_grad():
        assert float(weighted_negative_log_likelihood(model, collated(folder, unlearned), 0)) == 0


def gradients(model, batches, labels: int) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for batch in batches:
        weighted_negative_log_likelihood(model, batch, labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_accumulation_is_exact_for_parts_of_different_label_counts(folder, samples, images) -> None:
    model = folder.load()
    place(model, Train(parts={"language_model": "full"}), folder.backbone)
    chosen = encoded(folder, [samples[0], samples[1], WORDS, samples[-1]], images)
    whole = collated(folder, chosen)
    parts = [collated(folder, chosen[:2]), collated(folder, chosen[2:])]
    counts = [len(part["label"]) for part in parts]
    assert counts[0] > 1.5 * counts[1], "the point is that micro-batches differ"
    together = gradients(model, [whole], sum(counts))
    accumulated = gradients(model, parts, sum(counts))
    assert together.keys() == accumulated.keys() and len(together) > 10
    for name, gradient in together.items():
        torch.testing.assert_close(accumulated[name], gradient, atol=1e-5, rtol=0, msg=name)
    assert max(float(g.abs().max()) for g in together.values()) > 1e-2, "gradients are not all tiny"


def test_the_base_is_found_inside_an_adapter(folder, batch) -> None:
    """peft answers for attributes of what it wraps, so a search by attribute stops one layer too early."""
    model = folder.load()
    assert base_of(model) is model
    plain = token_log_probs(model, batch)
    adapted = place(model, Train(lora={"rank": 4, "alpha": 8, "dropout": 0.0}), folder.backbone)
    assert base_of(adapted) is model
    fresh = token_log_probs(adapted, batch)  # an adapter that was not trained changes nothing
    torch.testing.assert_close(fresh, plain, atol=1e-5, rtol=0)


def test_log_probs_are_log_probs(model, folder, examples, batch) -> None:
    """Over the vocabulary they sum to one, so no position is taken twice or normalised over the wrong axis."""
    with torch.no_grad():
        found = token_log_probs(model, batch)
    assert (found <= 0).all()
    reference = functional.log_softmax(full_logits(model, folder, examples[0]).float(), -1).exp().sum(-1)
    torch.testing.assert_close(reference, torch.ones_like(reference), atol=1e-4, rtol=0)


def test_checkpointing_is_really_on_and_leaves_the_frozen_tower_alone(folder, batch) -> None:
    """Each layer of the language model runs twice, the tower once and without a graph; gradients are the same."""
    model = place(folder.load(), Train(lora={"rank": 4, "alpha": 8, "dropout": 0.0}), folder.backbone).train()
    inner = base_of(model)
    plain = gradients(model, [batch], len(batch["label"]))
    checkpoint_layers(model)
    runs, graphs = {"layer": 0, "tower": 0}, []
    # Before it runs: the second time it stops as soon as all that the gradient needs is known again.
    inner.model.language_model.layers[1].mlp.register_forward_pre_hook(lambda *_: runs.update(layer=runs["layer"] + 1))
    tower = inner.model.vision_tower
    tower.register_forward_hook(lambda *_: runs.update(tower=runs["tower"] + 1))
    tower.register_forward_hook(lambda module, inputs, output: graphs.append(output.last_hidden_state.requires_grad))
    again = gradients(model, [batch], len(batch["label"]))
    assert runs == {"layer": 2, "tower": 1} and graphs == [False]
    assert plain.keys() == again.keys() and len(plain) > 10
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=0, msg=name)


def test_long_rows_attend_fused_on_a_cpu_with_the_same_result(model, batch, monkeypatch) -> None:
    found = {}
    for least, name in ((10**9, "eager"), (0, "sdpa")):
        monkeypatch.setattr(losses_of, "_FUSED", least)
        with torch.no_grad():
            found[name] = token_log_probs(model, batch)
        assert model.model.language_model.config._attn_implementation == name
    torch.testing.assert_close(found["eager"], found["sdpa"], atol=1e-5, rtol=0)
