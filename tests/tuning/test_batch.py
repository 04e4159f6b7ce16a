"""What the loss sees: assistant texts with their end tokens, weighted by kind, and pictures only where rows have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import DataError
from edgereverie.image import open_image, prepare
from edgereverie.records import Sample, Turn
from edgereverie.tuning.batch import IGNORE, Collate, Conversations, encode_sample
from edgereverie.tuning.losses import answer_log_probs, weighted_negative_log_likelihood

TEXT_ONLY = Sample("text", None, (Turn("user", "How many corners has a square?"), Turn("assistant", "Four.")))


def example(sample: Sample, folder: ModelFolder, images: Path | None, response: float = 1.0, rationale: float = 1.0):
    return encode_sample(sample, folder, folder.tokenizer(), images, response=response, rationale=rationale)


def runs(mask: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def collate(folder: ModelFolder, longest: int = 2048) -> Collate:
    return Collate(folder.image, folder.config["text_config"]["pad_token_id"], longest)


def test_labels_are_exactly_the_assistant_texts_and_their_ends(
    folder: ModelFolder, samples: list[Sample], images: Path
) -> None:
    tokenizer, end = folder.tokenizer(), folder.tokenizer().token_to_id("<|end|>")
    assert {len(sample.turns) for sample in samples} == {2, 4}
    for sample in samples:
        made = example(sample, folder, images)
        learned = made.labels != IGNORE
        texts = [turn.text for turn in sample.turns if turn.role == "assistant"]
        parts = [made.labels[run] for run in runs(learned)]
        assert [part[-1] for part in parts] == [end] * len(texts)
        assert [tokenizer.decode(part[:-1].tolist()).strip() for part in parts] == texts
        assert (made.labels[learned] == made.ids[learned]).all()
        assert (made.weights[learned] == 1).all() and (made.weights[~learned] == 0).all()


@pytest.mark.parametrize("text", ["Ja, ein Ring: größer!", "No.", "  two  spaces ", "line\nbreak", "🟥 rot", "1 234,5"])
def test_labels_of_unusual_texts_decode_to_them(folder: ModelFolder, text: str) -> None:
    made = example(Sample("u", None, (Turn("user", "Well?"), Turn("assistant", text))), folder, None)
    learned = made.labels[made.labels != IGNORE]
    assert folder.tokenizer().decode(learned[:-1].tolist()).strip() == text.strip()


def test_one_image_token_for_each_patch(folder: ModelFolder, samples: list[Sample], images: Path) -> None:
    image = folder.tokenizer().token_to_id("<image>")
    made = example(samples[0], folder, images)
    assert (made.ids == image).sum() == (96 // 16) ** 2 == folder.image.tokens
    assert (made.labels[made.ids == image] == IGNORE).all()
    assert (example(TEXT_ONLY, folder, None).ids != image).all()


def test_the_rationale_weight_is_for_the_last_turn_of_a_rationale_only(
    folder: ModelFolder, samples: list[Sample], images: Path
) -> None:
    for sample in samples[:8]:
        made = example(sample, folder, images, response=0.5, rationale=3.0)
        parts = [set(made.weights[run].tolist()) for run in runs(made.labels != IGNORE)]
        assert parts == ([{0.5}, {3.0}] if sample.rationale else [{0.5}])
    plain = replace(samples[0], rationale=None)
    assert set(example(plain, folder, images, response=0.5, rationale=3.0).weights.tolist()) == {0.0, 0.5}


def test_the_batch_is_padded_right_and_pictures_are_in_row_order(
    folder: ModelFolder, samples: list[Sample], images: Path
) -> None:
    chosen = [samples[0], TEXT_ONLY, next(s for s in samples if s.image != samples[0].image)]
    examples = [example(sample, folder, images if sample.image else None) for sample in chosen]
    batch = collate(folder)(examples)
    longest = max(map(len, examples))
    assert {key: tuple(value.shape) for key, value in batch.items()} == {
        "input_ids": (3, longest), "labels": (3, longest), "weights": (3, longest),
        "pixel_values": (2, 3, 96, 96),
    }  # fmt: skip
    for row, made in enumerate(examples):
        size = len(made)
        assert batch["input_ids"][row, :size].tolist() == made.ids.tolist()
        assert (batch["input_ids"][row, size:] == folder.config["text_config"]["pad_token_id"]).all()
        assert (batch["labels"][row, size:] == IGNORE).all() and (batch["weights"][row, size:] == 0).all()
    for picture, sample in zip(batch["pixel_values"], (chosen[0], chosen[2]), strict=True):
        assert np.array_equal(picture.numpy(), prepare(open_image(images / sample.image), folder.image))


def test_text_only_rows_do_not_consume_a_picture(folder: ModelFolder, samples: list[Sample], images: Path) -> None:
    """Each row of a mixed batch says what it says alone: no row sees a neighbour's picture or padding."""
    model = folder.load()
    other = next(s for s in samples if s.image != samples[0].image)
    chosen = [TEXT_ONLY, samples[0], replace(TEXT_ONLY, id="text 2"), other]
    examples = [example(sample, folder, images if sample.image else None) for sample in chosen]
    with torch.no_grad():
        together, mask = answer_log_probs(model, collate(folder)(examples))
        by_row = together.split(mask.sum(1).tolist())
        for made, found in zip(examples, by_row, strict=True):
            alone, _ = answer_log_probs(model, collate(folder)([made]))
            torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)
    assert "pixel_values" not in collate(folder)([examples[0]])


def about_one_picture(samples: list[Sample]) -> list[Sample]:
    """Everything said about two pictures, with words alone between and a third picture at the end."""
    by_image: dict[str, list[Sample]] = {}
    for sample in samples:
        by_image.setdefault(sample.image, []).append(sample)
    first, second, third = list(by_image.values())[:3]
    return [*first, TEXT_ONLY, *second, third[0]]


def test_conversations_about_one_picture_share_its_row(
    folder: ModelFolder, samples: list[Sample], images: Path
) -> None:
    chosen = about_one_picture(samples)
    examples = [example(sample, folder, images if sample.image else None) for sample in chosen]
    apart, shared = collate(folder, longest=1)(examples), collate(folder)(examples)
    assert "branch" not in apart and apart["input_ids"].shape[0] == len(chosen) > 10
    assert shared["input_ids"].shape[0] == shared["pixel_values"].shape[0] + 1 == 4
    for key in ("labels", "weights"):
        assert sorted(apart[key][apart["labels"] != IGNORE].tolist()) == sorted(
            shared[key][shared["labels"] != IGNORE].tolist()
        ), key
    room = len(examples[0]) + len(examples[1]) - examples[0].shared
    assert collate(folder, longest=room)(examples[:3])["input_ids"].shape == (2, max(room, len(examples[2])))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_shared_row_has_the_losses_and_gradients_of_separate_rows(
    folder: ModelFolder, samples: list[Sample], images: Path, attention: str
) -> None:
    chosen = about_one_picture(samples)
    examples = [example(sample, folder, images if sample.image else None) for sample in chosen]
    model = folder.load()
    model.set_attn_implementation(attention)
    found = []
    for batch in (collate(folder, longest=1)(examples), collate(folder)(examples)):
        model.zero_grad()
        log_probs, mask = answer_log_probs(model, batch)
        # Rows in their order hold the conversations in theirs, so labels come in one order in both layouts.
        assert torch.equal(
            batch["labels"][mask], torch.cat([torch.from_numpy(e.labels[e.labels != IGNORE]) for e in examples])
        )
        weighted_negative_log_likelihood(model, batch, int(mask.sum())).backward()
        found.append(
            (log_probs.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        )
    (apart, apart_gradients), (shared, shared_gradients) = found
    torch.testing.assert_close(shared, apart, atol=1e-4, rtol=0)
    assert apart_gradients.keys() == shared_gradients.keys()
    for name, gradient in apart_gradients.items():
        torch.testing.assert_close(shared_gradients[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_conversations_that_begin_otherwise_do_not_share(
    folder: ModelFolder, samples: list[Sample], images: Path
) -> None:
    """A system message before the picture is seen by its own conversation alone."""
    plain = samples[0]
    told = replace(plain, turns=(Turn("system", "Be brief."), *plain.turns))
    batch = collate(folder)([example(plain, folder, images), example(told, folder, images)])
    assert batch["input_ids"].shape[0] == 2 and "branch" not in batch


def test_too_long_samples_are_listed_not_cut(folder: ModelFolder, samples: list[Sample], images: Path) -> None:
    lengths = {sample.id: len(example(sample, folder, images)) for sample in samples}
    bound = sorted(lengths.values())[-3]
    long = {name for name, length in lengths.items() if length > bound}
    assert 1 <= len(long) <= 2
    with pytest.raises(
        DataError, match=f"{len(long)} of {len(samples)} samples are longer than {bound} tokens"
    ) as caught:
        Conversations(samples, folder, images, max_length=bound)
    assert all(f"{name} ({lengths[name]} tokens)" in str(caught.value) for name in long)
    kept = Conversations(samples, folder, images, max_length=max(lengths.values()))
    assert kept.lengths() == list(lengths.values()) and len(kept) == len(samples)
    words = example(TEXT_ONLY, folder, None)
    only = Conversations([TEXT_ONLY], folder, None, max_length=99)
    about = [
        [i for i, s in enumerate(samples) if s.image == image] for image in dict.fromkeys(s.image for s in samples)
    ]
    assert kept.groups() == about and only.groups() == [[0]]
    assert only.lengths() == [len(words) + folder.image.tokens], "so that it shares batches with pictures"


def test_broken_samples_are_named(folder: ModelFolder, images: Path) -> None:
    answer = Turn("assistant", "Yes.")
    for sample, root, message in (
        (Sample("a", "train/000000.png", (Turn("user", "Q?"), answer)), None, "'a' has an image, but no image root"),
        (Sample("b", "../x.png", (Turn("user", "Q?"), answer)), images, "'b': Image path '../x.png' leaves"),
        (Sample("c", None, (Turn("user", "Q? <|end|>"), answer)), None, "'c'.*control token"),
        (Sample("d", None, (answer,)), None, "'d'.*where the user's was expected"),
    ):
        with pytest.raises(DataError, match=message):
            example(sample, folder, root)
    missing = example(Sample("e", "train/none.png", (Turn("user", "Q?"), answer)), folder, images)
    with pytest.raises(DataError, match=r"none\.png: no such image"):
        collate(folder)([missing])
