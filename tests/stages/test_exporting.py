"""Adapter or model in, proved bundles out: what is merged, skipped, refused, estimated and noted on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgereverie import stages
from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import Bundle
from edgereverie.errors import BundleError, ExportError
from edgereverie.recipe import Recipe
from edgereverie.stages import _origin, _probes, _reference
from edgereverie.stages._probes import SCENES, Domain

pytest.importorskip("torch")


@pytest.fixture
def run(tuned_run: Path, tmp_path: Path) -> Path:
    """A run folder with its adapter, nothing merged yet."""
    leave = shutil.ignore_patterns("merged", "bundles", "checkpoints")
    return shutil.copytree(tuned_run, tmp_path / "run", ignore=leave)


def same_files(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.iterdir())
    return names == sorted(path.name for path in other.iterdir()) and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names
    )


def test_an_adapter_is_merged_once_and_merging_twice_is_merging_once(run: Path, tmp_path: Path, capsys) -> None:
    (bundle,) = stages.export(run, ["gguf-q8-0"])
    assert bundle == run / "bundles" / "run-gguf-q8-0"
    again = stages.merge(run / "adapter", tmp_path / "again")
    assert same_files(run / "merged", again)
    told = Bundle.load(bundle)
    told.check()
    assert told.parity["passed"] is True and told.parity["cases"] == 16 and told.parity["image_cases"] == 12
    assert told.parity["prompts"] == SCENES and told.parity["perplexity"] > 1
    assert told.made_from["recipe"] == json.loads((run / "run.json").read_text())["recipe"]
    assert told.made_from["adapter"] == json.loads((run / "merged" / "merge.json").read_text())["adapter"]
    data = [one for one in told.made_from["licences"] if one["of"] == "data"]
    assert data and sum(one["records"] for one in data) == told.made_from["licences"][-1]["records"] > 0
    assert str(tmp_path) not in (bundle / "bundle.json").read_text(), "no path of this machine"
    capsys.readouterr()
    stamp = (bundle / "bundle.json").stat().st_mtime_ns
    assert stages.export(run / "adapter", ["gguf-q8-0"]) == [bundle]
    said = capsys.readouterr().err.replace("\n", " ")
    assert "is there already" in said and (bundle / "bundle.json").stat().st_mtime_ns == stamp
    # Another adapter by now: neither its model nor its bundle is taken for the new one's.
    weights = run / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ExportError, match="was not made of") as caught:
        stages.export(run, ["gguf-q8-0"])
    assert "edgereverie merge" in caught.value.hint


def test_a_dry_run_writes_nothing(run: Path, capsys) -> None:
    before = sorted(path.as_posix() for path in run.rglob("*"))
    assert stages.export(run, ["gguf-q8-0", "onnx-int8"], dry_run=True) == []
    assert sorted(path.as_posix() for path in run.rglob("*")) == before
    said = capsys.readouterr().err
    assert "gguf-q8-0" in said and "onnx-int8" in said and said.count("MB") + said.count("GB") >= 6


def test_what_stands_and_is_something_else_is_not_replaced_unasked(tiny_folder: Path, tmp_path: Path) -> None:
    (bundle,) = stages.export(tiny_folder, ["gguf-f16"], tmp_path / "out", prompts=2)
    assert Bundle.load(bundle).parity["cases"] == 2
    for change in ({"prompts": 3}, {"profile": "strict"}, {"broken": True}):
        profile = "gguf-f16"
        if "profile" in change:
            profile = str(tmp_path / "mine.yaml")
            Path(profile).write_text("name: gguf-f16\ntarget: gguf\nquantization: Q8_0\ndescription: other\n"
                                     "parity: {min_top1: 0.5}\n", encoding="utf-8")  # fmt: skip
        if "broken" in change:
            (bundle / "bundle.json").write_text("{}", encoding="utf-8")
        with pytest.raises(BundleError, match="exists already") as caught:
            stages.export(tiny_folder, [profile], tmp_path / "out", prompts=change.get("prompts", 2))
        assert "--force" in caught.value.hint
    (remade,) = stages.export(tiny_folder, ["gguf-f16"], tmp_path / "out", prompts=2, force=True)
    Bundle.load(remade).check()


def test_profiles_of_one_name_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'gguf-f16' was named twice"):
        stages.export(tiny_folder, ["gguf-f16", "gguf-f16"], tmp_path)


def test_hallucinations_of_model_and_bundle_are_counted(tiny_folder: Path, tmp_path: Path) -> None:
    (bundle,) = stages.export(tiny_folder, ["gguf-f16"], tmp_path / "out", prompts=2, scores=2)
    told = Bundle.load(bundle).parity["scores"]
    accuracy = told["metrics"]["pope/official/adversarial/accuracy"]
    assert told["scenes"] == 2 and accuracy["model"]["n"] == 12, "six questions about each scene"
    assert accuracy["model"]["low"] <= accuracy["model"]["value"] <= accuracy["model"]["high"]
    change = told["metrics"]["chair/table/words"]
    assert change["bundle"]["value"] - change["model"]["value"] == pytest.approx(change["change"]["value"])
    assert not any(name.startswith("pope/random") for name in told["metrics"])


def test_scores_of_a_model_of_other_data_are_refused(run: Path) -> None:
    recipe = Recipe(name="x", data={"train": ({"path": run / "data" / "samples.jsonl"},)})
    stages.merge(run)
    recipe.dump(run / "recipe.yaml")
    with pytest.raises(ExportError, match="only for models of drawn scenes"):
        stages.export(run, ["gguf-f16"], scores=5)


# Prompts


def test_prompts_of_scenes(tiny_folder: Path) -> None:
    folder = stages.model_folder(str(tiny_folder))
    domain = Domain(None)
    prompts = domain.prompts(folder, 12)
    assert domain.name == SCENES and len(prompts) == 12
    assert [prompt.pixels is None for prompt in prompts] == [False, False, False, True] * 3
    for prompt in prompts:
        assert any(prompt.answers) and len(prompt.answers) == len(prompt.ids)
        pictures = list(prompt.ids).count(folder.config["image_token_index"])
        assert pictures == (0 if prompt.pixels is None else folder.image.tokens)
    fewer = domain.prompts(folder, 5)
    assert [list(prompt.ids) for prompt in fewer] == [list(prompt.ids) for prompt in prompts[:5]]
    assert len({tuple(prompt.ids) for prompt in prompts}) == 12
    apart = domain.prompts(folder, 12, "activations")
    assert not {prompt.pixels.tobytes() for prompt in apart if prompt.pixels is not None} & {
        prompt.pixels.tobytes() for prompt in prompts if prompt.pixels is not None
    }


def test_prompts_of_the_data_it_was_tuned_on(tuned_run: Path, tiny_folder: Path, capsys) -> None:
    folder = stages.model_folder(str(tiny_folder))
    data = {"train": ({"path": tuned_run / "data" / "samples.jsonl"},), "images": tuned_run / "data" / "images"}
    recipe = Recipe(name="own", data=data, train={"epochs": 1})
    domain = Domain(recipe)
    prompts = domain.prompts(folder, 6)
    assert (
        domain.name == "samples.jsonl" and len(prompts) == 6 and sum(prompt.pixels is None for prompt in prompts) == 1
    )
    learned = (tuned_run / "data" / "samples.jsonl").read_text(encoding="utf-8")
    tokenizer = folder.tokenizer()
    end = tokenizer.token_to_id("<|end|>")
    for prompt in prompts:
        words = [token for token, answer in zip(prompt.ids, prompt.answers, strict=True) if answer]
        assert words[-1] == end and tokenizer.decode(words[: words.index(end)]).strip() in learned
    apart = domain.prompts(folder, 6, "activations")
    assert not {tuple(prompt.ids) for prompt in apart} & {tuple(prompt.ids) for prompt in prompts}
    gone = Recipe(name="own", data={"train": ({"path": Path("gone.jsonl")},)}, train={"epochs": 1})
    domain = Domain(gone)
    assert len(domain.prompts(folder, 2)) == 2 and domain.name == SCENES
    assert "cannot be read" in capsys.readouterr().err


def test_prompts_that_are_too_long_are_left_out(tiny_folder: Path, monkeypatch) -> None:
    folder = stages.model_folder(str(tiny_folder))
    monkeypatch.setattr(_probes, "_LONGEST", 45)
    prompts = Domain(None).prompts(folder, 8)
    assert len(prompts) == 8 and max(len(prompt.ids) for prompt in prompts) <= 45 + folder.image.tokens


# Whose it is


def test_licences_go_back_to_the_base(run: Path, tmp_path: Path) -> None:
    """A run upon a run: the first one's data bind the second one's result, too."""
    first = stages.merge(run)
    second = shutil.copytree(run, tmp_path / "second", ignore=shutil.ignore_patterns("merged"))
    recipe = (second / "recipe.yaml").read_text(encoding="utf-8")
    base = Recipe.model_validate_json(json.dumps(_yaml(recipe))).backbone.model
    (second / "recipe.yaml").write_text(recipe.replace(base, str(first)), encoding="utf-8")
    shutil.copytree(first, second / "merged")
    found = list(_origin.licences(second / "merged", str(second / "merged")))
    assert [one["of"] for one in found if one["of"] != "data"] == ["base"]
    data = [one for one in found if one["of"] == "data"]
    assert data[: len(data) // 2] == data[len(data) // 2 :] and data
    assert list(_origin.licences(Path("nowhere"), "LanguageBind/MoE-LLaVA-Qwen-1.8B-4e")) == [
        {"of": "base", "name": "LanguageBind/MoE-LLaVA-Qwen-1.8B-4e", "licence": "Apache-2.0"},
        {"of": "language model", "name": "LanguageBind/MoE-LLaVA-Qwen-1.8B-4e",
         "licence": "Tongyi Qianwen research, non-commercial"},
    ]  # fmt: skip


def _yaml(text: str) -> object:
    import yaml

    return yaml.safe_load(text)


def test_a_card_gives_its_sources_back(tmp_path: Path) -> None:
    from edgereverie.records import Sample, Turn
    from edgereverie.tuning import card

    turns = (Turn("user", "?"), Turn("assistant", "!"))
    records = [Sample(str(i), None, turns, source=f"a|b{i % 2}", licence="CC | x" if i else "") for i in range(1200)]
    rows = [f"| {card._cell(source)} | {card._cell(licence)} | {count:,} |"
            for source, licence, count in card.sources(records)]  # fmt: skip
    text = "\n".join(
        ["# x", "", "## Data", "", "| source | licence | records |", "|---|---|---|", *rows, "", "```json"]
    )
    (tmp_path / "README.md").write_text(text, encoding="utf-8")
    assert card.read_sources(tmp_path / "README.md") == card.sources(records)


# The model that is compared with


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_widened_block_by_block_the_logits_are_the_same(
    dtype: str, tiny_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    import torch

    model = stages.model_folder(str(tiny_folder)).load()
    folder = shutil.copytree(tiny_folder, tmp_path / "half")
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    half = stages.model_folder(str(folder))
    prompts = Domain(None).prompts(half, 4)

    def logits() -> list[np.ndarray]:
        with _reference.reference_engine(half) as engine:
            found = []
            for prompt in prompts:
                features = None if prompt.pixels is None else engine.encode(prompt.pixels)
                found.append(engine.open().feed(prompt.ids, features, logits="all"))
            return found

    whole = logits()
    widened: list[bool] = []
    real = ModelFolder.load_widened
    monkeypatch.setattr(_reference, "available_bytes", lambda: 1)
    monkeypatch.setattr(ModelFolder, "load_widened", lambda folder: widened.append(True) or real(folder))
    for one, other in zip(whole, logits(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert widened == [True]
