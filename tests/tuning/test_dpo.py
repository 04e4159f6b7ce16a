"""DPO and POVID on trees against plain evaluations of separate rows, written from the papers' formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn.functional import log_softmax, logsigmoid

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import sha256_of
from edgereverie.errors import DataError, RecipeError, TrainError
from edgereverie.recipe import Recipe, Train, load_recipe
from edgereverie.records import PreferencePair
from edgereverie.tuning import qlora, trainer
from edgereverie.tuning.batch import Example
from edgereverie.tuning.methods.dpo import METHOD as DPO
from edgereverie.tuning.methods.povid import METHOD as POVID
from edgereverie.tuning.pairs import Pairs
from edgereverie.tuning.reference import adapter_off

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}


def recipe_of(folder: ModelFolder, **train) -> Recipe:
    quick = {"steps": 4, "batch_size": 2, "precision": "fp32", "save_every": 2, "log_every": 1, "warmup": 0.0,
             "learning_rate": 5e-4, "lora": LORA, "method": "dpo"}  # fmt: skip
    return Recipe(name="test", backbone={"model": str(folder.path), "quantization": "none"},
                  data={"scenes": {"count": 6, "diet": "preferences", "seed": 6}}, train=quick | train)  # fmt: skip


@pytest.fixture
def model(folder: ModelFolder):
    """An adapter that is not without effect, so that policy and reference differ; the projector trains beside it."""
    torch.manual_seed(0)
    made = qlora.place(folder.load(), Train(lora=LORA, parts={"projector": "full"}), folder.backbone)
    for name, parameter in made.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return made.train()


@pytest.fixture
def data(folder: ModelFolder, pairs: list[PreferencePair], drawn_pairs: Path) -> Pairs:
    return DPO.dataset(pairs[:5], folder, drawn_pairs / "images", recipe_of(folder))


def logits_of(model, example: Example, pixels: torch.Tensor) -> torch.Tensor:
    """(tokens, vocabulary) of one conversation alone, by the model's own forward."""
    return model(input_ids=torch.from_numpy(example.ids)[None], pixel_values=pixels[None]).logits[0]


def log_prob(logits: torch.Tensor, example: Example, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """Sum of log p of the answer's tokens, or of ``tokens`` in their places."""
    places = np.flatnonzero(example.learned)
    wanted = torch.from_numpy(example.ids[places]) if tokens is None else tokens
    return log_softmax(logits[places - 1].float(), -1).gather(-1, wanted[:, None]).sum()


def plain_dpo(model, data: Pairs, pixels: dict[Path, torch.Tensor]) -> torch.Tensor:
    losses = []
    for pair in data.pairs:
        sides = [pair.chosen, pair.rejected]
        policy = [log_prob(logits_of(model, side, pixels[side.image]), side) for side in sides]
        with torch.no_grad(), adapter_off(model):
            reference = [log_prob(logits_of(model, side, pixels[side.image]), side) for side in sides]
        losses.append(-logsigmoid(0.1 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))))
    return torch.stack(losses).mean()


def looked_at(data: Pairs, folder: ModelFolder, look=None) -> dict[Path, torch.Tensor]:
    from edgereverie.image import open_image, prepare

    look = look or open_image
    images = {pair.chosen.image for pair in data.pairs}
    return {image: torch.from_numpy(prepare(look(image), folder.image)) for image in images}


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys() and len(found) > 10
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-3, "gradients are not all tiny"


def test_dpo_is_that_of_separate_rows(model, folder: ModelFolder, data: Pairs) -> None:
    recipe = recipe_of(folder)
    batch = DPO.collate(folder, recipe)([data[index] for index in range(len(data))])
    assert len(batch["pixel_values"]) < len(data), "pairs about one picture share it"
    assert batch["input_ids"].numel() < sum(len(p.chosen) + len(p.rejected) for p in data.pairs) * 2 / 3
    loss, figures = DPO.loss(model, batch, DPO.size(batch), recipe)
    wanted = plain_dpo(model, data, looked_at(data, folder))
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    assert set(figures) == {"reward_chosen", "reward_rejected", "reward_accuracy"}
    same(gradients(model, loss), gradients(model, plain_dpo(model, data, looked_at(data, folder))))


def plain_povid(model, data: Pairs, clean, drowned, loss: str) -> torch.Tensor:
    losses = []
    for pair in data.pairs:
        chosen, rejected, image = pair.chosen, pair.rejected, pair.chosen.image
        places = np.flatnonzero(chosen.learned)

        def look() -> tuple[torch.Tensor, ...]:
            return (logits_of(model, chosen, clean[image]), logits_of(model, rejected, clean[image]),  # noqa: B023
                    logits_of(model, chosen, drowned[image]))  # noqa: B023  # fmt: skip

        on_chosen, on_rejected, on_drowned = look()
        with torch.no_grad(), adapter_off(model):
            reference = look()
        own, reference_own = on_drowned[places - 1].argmax(-1), reference[2][places - 1].argmax(-1)
        preferred = log_prob(on_chosen, chosen) - log_prob(reference[0], chosen)
        text = log_prob(on_rejected, rejected) - log_prob(reference[1], rejected)
        if loss == "repo":
            noise = log_prob(on_chosen, chosen, own) - log_prob(reference[0], chosen, reference_own)
            losses.append(-0.5 * logsigmoid(0.1 * (preferred - noise)) - 0.5 * logsigmoid(0.1 * (preferred - text)))
        else:
            noise = log_prob(on_drowned, chosen, own) - log_prob(reference[2], chosen, own)
            losses.append(-logsigmoid(0.2 * preferred - (0.1 * text + 0.05 * noise)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("loss", ["repo", "paper"])
def test_povid_is_that_of_separate_rows(model, folder: ModelFolder, data: Pairs, loss: str) -> None:
    recipe = recipe_of(folder, method="povid", povid={"loss": loss, "alpha": 0.2, "noise_beta": 0.05})
    collate = POVID.collate(folder, recipe)
    batch = collate([data[index] for index in range(len(data))])
    clean, drowned = looked_at(data, folder), looked_at(data, folder, lambda image: collate._drowned(image, 0))
    assert all((clean[image] - drowned[image]).abs().mean() > 0.5 for image in clean)
    found, _ = POVID.loss(model, batch, POVID.size(batch), recipe)
    assert found.item() == pytest.approx(plain_povid(model, data, clean, drowned, loss).item(), abs=1e-5)
    same(gradients(model, found), gradients(model, plain_povid(model, data, clean, drowned, loss)))


def test_noise_is_the_same_for_a_seed_and_an_epoch(folder: ModelFolder, data: Pairs) -> None:
    def pixels(epoch: int, **povid) -> torch.Tensor:
        data.set_epoch(epoch)
        return POVID.collate(folder, recipe_of(folder, method="povid", povid=povid))([data[0]])["noised"][
            "pixel_values"
        ]

    assert torch.equal(pixels(0), pixels(0)) and not torch.equal(pixels(0), pixels(1))
    assert torch.equal(pixels(0, redraw=False), pixels(1, redraw=False))
    assert not torch.equal(pixels(0, wrap=True), pixels(0))


def run(folder: ModelFolder, pairs, images: Path, out: Path, how, **train) -> Path:
    trainer.quiet()
    recipe = recipe_of(folder, **train)
    return trainer.run(recipe, how, folder, pairs, images, out, console=Console(quiet=True), counts={})


def test_a_kept_reference_trains_to_the_same_adapter(folder, pairs, drawn_pairs: Path, tmp_path: Path) -> None:
    images = drawn_pairs / "images"
    off = run(folder, pairs, images, tmp_path / "off", DPO)
    kept = run(folder, pairs, images, tmp_path / "kept", DPO, preference={"reference": "kept"})
    lines = (tmp_path / "kept" / "reference.jsonl").read_text().splitlines()
    assert len(lines) == 1 + len(pairs) and {"ref_chosen_logps", "ref_rejected_logps"} < set(json.loads(lines[1]))
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("off", "kept")
    ]
    for a, b in zip(*logs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4) and "reward_accuracy" in a
    assert logs[0][0]["loss"] == pytest.approx(np.log(2), abs=1e-4), "policy and reference are one at the start"
    assert (off / "adapter_model.safetensors").stat().st_size == (kept / "adapter_model.safetensors").stat().st_size


def test_a_kept_reference_goes_on_and_refuses_what_is_not_its_own(
    folder, pairs, drawn_pairs: Path, tmp_path: Path
) -> None:
    images, out = drawn_pairs / "images", tmp_path / "run"
    result = run(folder, pairs, images, out, DPO, preference={"reference": "kept"})
    adapter, path = sha256_of(result / "adapter_model.safetensors"), out / "reference.jsonl"
    whole = path.read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    (again / "reference.jsonl").write_bytes(whole[: len(whole) // 2])  # cut inside a line, as a kill leaves it
    result = run(folder, pairs, images, again, DPO, preference={"reference": "kept"})
    rows = [json.loads(line) for line in (again / "reference.jsonl").read_text().splitlines()[1:]]
    assert sorted(row["pair"] for row in rows) == list(range(len(pairs)))
    wanted = {row["pair"]: row for row in map(json.loads, whole.decode().splitlines()[1:])}
    for row in rows:
        assert row["ref_chosen_logps"] == pytest.approx(wanted[row["pair"]]["ref_chosen_logps"], abs=1e-3)
    other = tmp_path / "other"
    other.mkdir()
    (other / "reference.jsonl").write_bytes(whole)
    with pytest.raises(TrainError, match="computed with other weights, other data or another precision"):
        run(folder, pairs[1:], images, other, DPO, preference={"reference": "kept"})
    assert adapter


def test_povid_trains(folder, pairs, drawn_pairs: Path, tmp_path: Path) -> None:
    result = run(folder, pairs, drawn_pairs / "images", tmp_path / "run", POVID, method="povid", workers=1, steps=8)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert result.name == "adapter" and losses[0] == pytest.approx(np.log(2), abs=1e-3) and losses[-1] < losses[0]


def test_a_kept_reference_of_noised_pictures_is_what_it_says_itself(
    folder, pairs, drawn_pairs: Path, tmp_path: Path
) -> None:
    """Noise drawn once: the same losses in the second epoch too, where policy and reference are no longer one."""
    images, povid = drawn_pairs / "images", {"redraw": False}
    logs = []
    for name, preference in (("off", {}), ("kept", {"reference": "kept"})):
        run(folder, pairs, images, tmp_path / name, POVID, method="povid", povid=povid, preference=preference, steps=8,
            learning_rate=1e-3)  # fmt: skip
        logs.append([json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()])
    for a, b in zip(*logs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    assert abs(logs[0][-1]["loss"] - np.log(2)) > 1e-2
    rows = [json.loads(line) for line in (tmp_path / "kept" / "reference.jsonl").read_text().splitlines()[1:]]
    assert all(row["ref_own_logps"] < 0 for row in rows) and len(rows) == len(pairs)
    assert any(row["ref_own_logps"] != row["ref_chosen_logps"] for row in rows)


def test_the_prompt_is_not_learned(data: Pairs, folder: ModelFolder) -> None:
    tokenizer = folder.tokenizer()
    for pair in data.pairs:
        for side in (pair.chosen, pair.rejected):
            learned = np.flatnonzero(side.learned)
            assert (np.diff(learned) == 1).all() and learned[-1] >= len(side) - 2
    assert tokenizer.decode(data.pairs[0].chosen.ids[data.pairs[0].chosen.learned].tolist())


def test_pairs_that_cannot_be_trained_on(folder, pairs, drawn_pairs: Path) -> None:
    from dataclasses import replace

    other = replace(pairs[0], rejected_image=pairs[-1].image)
    with pytest.raises(DataError, match="another picture for the rejected answer"):
        Pairs([other], folder, drawn_pairs / "images", max_length=2048)
    with pytest.raises(DataError, match="pairs are longer than 60 tokens"):
        Pairs(pairs, folder, drawn_pairs / "images", max_length=60)


def test_without_an_adapter_there_is_no_reference_to_switch_to(folder, data: Pairs) -> None:
    recipe = recipe_of(folder)
    batch = DPO.collate(folder, recipe)([data[0]])
    with pytest.raises(TrainError, match="no adapter to switch off"):
        DPO.loss(folder.load(), batch, 1, recipe)


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: run\ndata: {scenes: {count: 2, diet: preferences}}\ntrain:\n  method: povid\n"
                    "  preference: {reference: kept}\n")  # fmt: skip
    with pytest.raises(RecipeError, match="kept only where loss is repo and noise is drawn once"):
        load_recipe(path)
    path.write_text("name: run\ndata: {scenes: {count: 2, diet: preferences}}\ntrain:\n  method: dpo\n"
                    "  preference: {loss: ipo, smoothing: 0.1}\n")  # fmt: skip
    with pytest.raises(RecipeError, match="flipped labels are a matter of the sigmoid loss"):
        load_recipe(path)
