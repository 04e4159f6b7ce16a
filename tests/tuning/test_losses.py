"""The loss against one computed from full logits by hand, and what never reaches the language model's head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from edgereverie.backbones.base import ModelFolder
from edgereverie.recipe import Train
from edgereverie.records import Sample, Turn
from edgereverie.tuning.batch import IGNORE, Collate, encode_sample
from edgereverie.tuning.losses import answer_log_probs, base_of, weighted_negative_log_likelihood
from edgereverie.tuning.qlora import place

WORDS = Sample("text", None, (Turn("user", "And without a picture?"), Turn("assistant", "Nothing is to be seen then.")))


@pytest.fixture(scope="module")
def model(folder: ModelFolder):
    return folder.load()


@pytest.fixture
def batch(folder: ModelFolder, samples: list[Sample], images: Path):
    return make(folder, [samples[0], WORDS, samples[1], samples[-1]], images)


def make(folder: ModelFolder, samples: list[Sample], images: Path, rationale: float = 1.0) -> dict[str, torch.Tensor]:
    """Each conversation in a row of its own."""
    tokenizer = folder.tokenizer()
    examples = [encode_sample(s, folder, tokenizer, images, response=1.0, rationale=rationale) for s in samples]
    return Collate(folder.image, folder.config["text_config"]["pad_token_id"], longest=1)(examples)


def inputs(model, batch) -> dict[str, torch.Tensor]:
    """What the model's own forward takes, with the mask that our loss does without: padding is told to it."""
    told = (batch["input_ids"] != model.config.text_config.pad_token_id).long()
    return {"input_ids": batch["input_ids"], "attention_mask": told, "pixel_values": batch["pixel_values"]}


def by_hand(model, batch) -> tuple[list[float], list[float]]:
    """(-log p, weight) of each label, from the model's own full logits: the label at t is predicted at t - 1."""
    with torch.no_grad():
        logits = model(**inputs(model, batch)).logits
    losses, weights = [], []
    for row in range(len(logits)):
        for t in range(1, logits.shape[1]):
            label = int(batch["labels"][row, t])
            if label != IGNORE:
                scores = logits[row, t - 1].double()
                losses.append(float(torch.logsumexp(scores, 0) - scores[label]))
                weights.append(float(batch["weights"][row, t]))
    return losses, weights


def test_the_loss_equals_cross_entropy_by_hand(model, batch) -> None:
    losses, _ = by_hand(model, batch)
    count = int((batch["labels"] != IGNORE).sum())
    assert len(losses) == count
    with torch.no_grad():
        found, mask = answer_log_probs(model, batch)
        loss = weighted_negative_log_likelihood(model, batch, count)
    assert torch.equal(mask, batch["labels"] != IGNORE)
    torch.testing.assert_close(-found.double(), torch.tensor(losses, dtype=torch.float64), atol=1e-4, rtol=0)
    assert float(loss) == pytest.approx(sum(losses) / count, abs=1e-5)


def test_weights_scale_the_rationale_and_not_the_divisor(model, folder, samples, images) -> None:
    batch = make(folder, samples[:2], images, rationale=0.25)
    losses, weights = by_hand(model, batch)
    assert set(weights) == {1.0, 0.25}
    with torch.no_grad():
        loss = weighted_negative_log_likelihood(model, batch, len(losses))
    assert float(loss) == pytest.approx(
        sum(a * b for a, b in zip(losses, weights, strict=True)) / len(losses), abs=1e-5
    )


def test_it_is_the_models_own_loss_when_all_weights_are_one(model, batch) -> None:
    """transformers' loss for the same labels, which is LLaVA's: mean cross-entropy over the labelled tokens."""
    with torch.no_grad():
        theirs = model(**inputs(model, batch), labels=batch["labels"]).loss
        ours = weighted_negative_log_likelihood(model, batch, int((batch["labels"] != IGNORE).sum()))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


def test_only_labelled_positions_reach_the_head(model, batch) -> None:
    rows = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(tuple(inputs[0].shape)))
    try:
        with torch.no_grad():
            answer_log_probs(model, batch)
    finally:
        hook.remove()
    labels = int((batch["labels"] != IGNORE).sum())
    assert rows == [(labels, 256)] and labels < batch["labels"].numel() / 2


def test_a_batch_without_labels_is_no_division_by_zero(model, batch) -> None:
    empty = batch | {"labels": torch.full_like(batch["labels"], IGNORE)}
    with torch.no_grad():
        assert float(weighted_negative_log_likelihood(model, empty, 0)) == 0


def gradients(model, batches, labels: int) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for batch in batches:
        weighted_negative_log_likelihood(model, batch, labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_accumulation_is_exact_for_parts_of_different_label_counts(folder, samples, images) -> None:
    model = folder.load()
    place(model, Train(parts={"language_model": "full"}), folder.backbone)
    chosen = [samples[0], samples[1], WORDS, samples[-1]]
    whole = make(folder, chosen, images)
    parts = [make(folder, chosen[:2], images), make(folder, chosen[2:], images)]
    counts = [int((part["labels"] != IGNORE).sum()) for part in parts]
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
    plain, _ = answer_log_probs(model, batch)
    adapted = place(model, Train(lora={"rank": 4, "alpha": 8, "dropout": 0.0}), folder.backbone)
    assert base_of(adapted) is model
    fresh, _ = answer_log_probs(adapted, batch)  # an adapter that was not trained changes nothing
    torch.testing.assert_close(fresh, plain, atol=1e-5, rtol=0)


def test_log_probs_are_log_probs(model, batch) -> None:
    """Over the vocabulary they sum to one, so no position is taken twice or normalised over the wrong axis."""
    with torch.no_grad():
        found, _ = answer_log_probs(model, batch)
        logits = model(**inputs(model, batch)).logits
    assert (found <= 0).all()
    reference = functional.log_softmax(logits[0].float(), -1).exp().sum(-1)
    torch.testing.assert_close(reference, torch.ones_like(reference), atol=1e-4, rtol=0)
