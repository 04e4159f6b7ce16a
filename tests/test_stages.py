"""The stages one after the other on an untrained starter, and what each says to input that is broken."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgereverie import stages
from edgereverie.bundle import MANIFEST, Bundle, describe_file, write_text
from edgereverie.errors import (
    BackboneError,
    BackendError,
    BundleError,
    DataError,
    EdgeReverieError,
    ExportError,
    RecipeError,
    TrainError,
)
from edgereverie.recipe import Recipe, load_recipe
from edgereverie.records import Options, Turn

for package in ("torch", "transformers", "peft", "bitsandbytes", "onnxruntime", "llama_cpp", "gguf", "onnx"):
    pytest.importorskip(package)

PROFILES = ("onnx-fp32", "gguf-f16", "gguf-q8-0")
QUESTION = [Turn("user", "Is there a ring in the image?")]


@pytest.fixture(scope="session")
def picture(tuned_run: Path) -> Path:
    return tuned_run / "data" / "images" / "train" / "000000.png"


@pytest.fixture
def spoilt(exported: Callable[[str], Path], tmp_path: Path) -> Callable[..., Bundle]:
    """A bundle whose file in one role is changed; the manifest is brought in line unless told otherwise."""

    def spoil(profile: str, role: str, change: Callable[[bytes], bytes], *, honest: bool = True) -> Bundle:
        folder = shutil.copytree(exported(profile), tmp_path / "spoilt")
        bundle = Bundle.load(folder)
        path = bundle.file(role)
        path.write_bytes(change(path.read_bytes()))
        if honest:
            files = dict(bundle.files) | {role: describe_file(folder, bundle.files[role].path)}
            bundle = replace(bundle, files=files)
            bundle.write()
        return bundle

    return spoil


def own_recipe(rows: Path, images: Path | None, model: Path, **train: object) -> Recipe:
    quick = {
        "epochs": 1,
        "batch_size": 2,
        "precision": "fp32",
        "log_every": 1,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
    }
    return Recipe(name="own", backbone={"model": str(model), "quantization": "none"},
                  data={"train": ({"path": rows},), "images": images}, train=quick | train)  # fmt: skip


# The line once


@pytest.mark.parametrize("profile", PROFILES)
def test_trained_merged_exported_and_asked(profile: str, exported, merged_folder: Path, picture: Path) -> None:
    """Each bundle passed its own parity bound, is whole, and answers greedily what the merged model answers."""
    bundle = Bundle.load(exported(profile))
    bundle.check()
    assert bundle.parity["passed"] is True
    assert bundle.made_from["base"] and set(bundle.made_from["weights"]) == {"model.safetensors"}
    options = Options(max_tokens=12)
    with stages.open_model(str(bundle.folder)) as model, stages.open_model(str(merged_folder)) as reference:
        answer = model.answer(picture, QUESTION, options)
        assert model.engine.backend == {"onnx": "onnxrt", "gguf": "llamacpp"}[bundle.target]
        assert answer == replace(model.answer(picture, QUESTION, options), seconds=answer.seconds), (
            "asked twice, answered alike"
        )
        assert answer.tokens <= 12
        if profile != "gguf-q8-0":
            assert answer.text == reference.answer(picture, QUESTION, options).text
        difference = model.score(picture, QUESTION, "No.") - reference.score(picture, QUESTION, "No.")
        assert abs(difference) < (0.5 if profile == "gguf-q8-0" else 0.05)
        blind = model.score(None, QUESTION, "No.")
        assert np.isfinite(blind) and blind != model.score(picture, QUESTION, "No."), (
            "it looks, and it answers blind, too"
        )


def test_the_tuned_run_says_what_it_was_made_from(tuned_run: Path, tiny_folder: Path) -> None:
    card = (tuned_run / "adapter" / "README.md").read_text(encoding="utf-8")
    assert str(tiny_folder) in card and "4-bit NF4" in card and "library_name: peft" in card
    counted = json.loads(card.partition("```json\n")[2].partition("\n```")[0])
    rows = (tuned_run / "data" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert counted["total"] == len(rows) - 1 and counted["images"] == 8
    assert counted["rationale"]["positive"] == counted["rationale"]["negative"]


def test_a_finished_run_is_returned_as_it_is(tuned_run: Path) -> None:
    recipe = load_recipe(tuned_run / "recipe.yaml")
    stamp = (tuned_run / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert stages.train(recipe, tuned_run) == tuned_run / "adapter"
    assert (tuned_run / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(TrainError, match="holds a run already"):
        stages.train(recipe, tuned_run, resume=False)
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 9})})
    with pytest.raises(TrainError, match="another recipe"):
        stages.train(other, tuned_run)


def test_a_finished_bundle_is_not_exported_again(exported, merged_folder: Path) -> None:
    bundle = exported("onnx-fp32")
    stamp = (bundle / MANIFEST).stat().st_mtime_ns
    assert stages.export(merged_folder, ["onnx-fp32"], bundle.parent) == [bundle]
    assert (bundle / MANIFEST).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("profile", ["gguf-q8-0"])
def test_evaluate_with_a_limit(profile: str, exported, merged_folder: Path, tmp_path: Path) -> None:
    data = stages.draw_scenes(tmp_path / "scenes", train=10, heldout=4, seed=1, companion_share=0.5)
    out = stages.evaluate([str(merged_folder), str(exported(profile))], benchmarks=["pope", "chair"], data=data, limit=3,
                          out=tmp_path / "report")  # fmt: skip
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(report["runs"]) == 2 and len(report["comparisons"]) == 1
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    journals = {path.name: path.read_text(encoding="utf-8").splitlines() for path in (out / "answers").iterdir()}
    assert len(journals) == 4
    stages.evaluate(
        [str(merged_folder), str(exported(profile))], benchmarks=["pope", "chair"], data=data, limit=3, out=out
    )
    again = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [run["scores"] for run in again["runs"]] == [run["scores"] for run in report["runs"]]
    kept = {path.name: path.read_text(encoding="utf-8").splitlines() for path in (out / "answers").iterdir()}
    assert kept == journals, "answers come from the journal, none is asked for again"


# Models that are not there


def test_models_that_are_not_there(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(BackboneError, match="no such model folder"):
        stages.model_folder(str(tmp_path / "none"))
    with pytest.raises(BackboneError, match=r"it has no config\.json"):
        stages.model_folder(str(tmp_path))
    with pytest.raises(BackendError, match="neither a bundle"):
        stages.open_model(str(tmp_path))
    with pytest.raises(RecipeError, match="Unknown export profile 'gguf-q80'") as caught:
        stages.export(tiny_folder, ["gguf-q80"], tmp_path / "out")
    assert "gguf-q8-0" in caught.value.hint
    with pytest.raises(ExportError, match="No export profile"):
        stages.export(tiny_folder, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "change", "message"), [
    ("model.safetensors", lambda data: data[: len(data) // 2], "damaged or cut short"),
    ("config.json", lambda data: data[: len(data) // 2], r"config\.json: cannot be read"),
    ("config.json", lambda data: data.replace(b'"num_hidden_layers": 4', b'"num_hidden_layers": 5'), "disagree|do not load"),
])  # fmt: skip
def test_damaged_model_folders(tiny_folder: Path, tmp_path: Path, name: str, change, message: str) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(BackboneError, match=message) as caught:
        stages.model_folder(str(folder)).load()
    assert str(folder) in str(caught.value) and caught.value.hint


# Data that is broken: told before any weight is loaded, and no run is begun


def row(image: str | None, name: str = "1", answer: str = "No.") -> dict[str, object]:
    human = "Is there a cat?" if image is None else "<image>\nIs there a cat?"
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns} | ({} if image is None else {"image": image})


@pytest.fixture
def photos(tmp_path: Path, picture: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(picture, folder / "good.png")
    (folder / "cut.png").write_bytes(picture.read_bytes()[:200])
    return folder


def refused(recipe: Recipe, out: Path) -> EdgeReverieError:
    with pytest.raises(EdgeReverieError) as caught:
        stages.train(recipe, out)
    assert not (out / "adapter").exists() and not list(out.glob("checkpoints/*"))
    return caught.value


def test_a_missing_image_is_named_with_its_record(photos: Path, tmp_path: Path, tiny_folder: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([row("good.png"), row("gone.png", "seven")]), encoding="utf-8")
    error = refused(own_recipe(rows, photos, tiny_folder), tmp_path / "run")
    assert (
        isinstance(error, DataError)
        and "gone.png" in str(error)
        and "seven" in str(error)
        and "rows.json" in str(error)
    )


def test_a_truncated_image_is_named(photos: Path, tmp_path: Path, tiny_folder: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([row("cut.png"), row("good.png", "2")]), encoding="utf-8")
    error = refused(own_recipe(rows, photos, tiny_folder), tmp_path / "run")
    assert isinstance(error, DataError) and "cut.png" in str(error) and "cut short" in str(error) and error.hint


def test_a_row_without_an_image_trains_as_text(photos: Path, tmp_path: Path, tiny_folder: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([row(None), row("good.png", "2")]), encoding="utf-8")
    result = stages.train(own_recipe(rows, photos, tiny_folder), tmp_path / "run")
    assert '"total": 2' in (result / "README.md").read_text(encoding="utf-8")


def test_json_cut_in_half_is_told_with_its_place(photos: Path, tmp_path: Path, tiny_folder: Path) -> None:
    rows = tmp_path / "rows.json"
    text = json.dumps([row("good.png", str(number)) for number in range(20)], indent=1)
    rows.write_text(text[: len(text) // 2], encoding="utf-8")
    error = refused(own_recipe(rows, photos, tiny_folder), tmp_path / "run")
    assert isinstance(error, DataError) and "rows.json" in str(error) and any(c.isdigit() for c in str(error))


def test_an_image_root_that_is_not_given_or_not_there(photos: Path, tmp_path: Path, tiny_folder: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([row("good.png")]), encoding="utf-8")
    assert "image root" in str(refused(own_recipe(rows, None, tiny_folder), tmp_path / "run"))
    assert not (tmp_path / "run" / "run.json").exists(), "once mended, the recipe runs into the same folder"
    assert "no such image folder" in str(refused(own_recipe(rows, tmp_path / "nowhere", tiny_folder), tmp_path / "run"))


def test_an_unknown_key_in_a_recipe_is_told_with_its_line(recipe_file: Callable[[str], Path]) -> None:
    path = recipe_file("name: x\ndata:\n  scenes: {count: 2}\ntrain:\n  learning_rte: 1.0e-3\n")
    with pytest.raises(
        RecipeError, match=r"run\.yaml:5: train\.learning_rte: unknown key\. Did you mean 'learning_rate'"
    ):
        load_recipe(path)


# Bundles that are broken


def test_one_changed_byte_is_found(spoilt, picture: Path) -> None:
    def flip(data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    bundle = spoilt("gguf-q8-0", "model", flip, honest=False)
    with pytest.raises(BundleError, match=r"\(model\) was changed"):
        bundle.check()


@pytest.mark.parametrize("honest", [False, True])
def test_a_gguf_cut_short(spoilt, honest: bool) -> None:
    """Also when the manifest was made to fit, so that llama.cpp itself has to notice."""
    bundle = spoilt("gguf-q8-0", "model", lambda data: data[: len(data) // 2], honest=honest)
    with pytest.raises((BundleError, BackendError)) as caught:
        stages.open_model(str(bundle.folder))
    assert bundle.files["model"].path in str(caught.value) and caught.value.hint


def test_a_graph_cut_short(spoilt) -> None:
    bundle = spoilt("onnx-fp32", "decoder", lambda data: data[: len(data) // 2])
    with pytest.raises((BundleError, BackendError)) as caught:
        stages.open_model(str(bundle.folder))
    assert bundle.files["decoder"].path in str(caught.value) and caught.value.hint


def wrong_vision(tokens: int, width: int) -> bytes:
    """A well-formed vision encoder of another size, such as another model's."""
    from onnx import TensorProto, helper

    weight = helper.make_tensor("features", TensorProto.FLOAT, [1, tokens, width], [0.0] * (tokens * width))
    nodes = [
        helper.make_node("ReduceSum", ["pixel_values"], ["sum"], keepdims=0),
        helper.make_node("Add", ["features", "sum"], ["image_features"]),
    ]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                   for name, shape in (("pixel_values", [1, 3, 96, 96]), ("image_features", [1, tokens, width])))  # fmt: skip
    graph = helper.make_graph(nodes, "vision", [given], [made], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("profile", ["gguf-f16", "onnx-fp32"])
@pytest.mark.parametrize(
    ("tokens", "width", "message"), [(36, 128, "128 wide.*takes 256"), (16, 256, "16 image tokens.*36")]
)
def test_a_vision_encoder_of_another_size(spoilt, profile: str, tokens: int, width: int, message: str) -> None:
    bundle = spoilt(profile, "vision", lambda _: wrong_vision(tokens, width))
    with pytest.raises(BundleError, match=message) as caught:
        stages.open_model(str(bundle.folder))
    assert "same merged folder" in caught.value.hint


def test_a_tokenizer_of_another_model(spoilt, picture: Path) -> None:
    """One with more tokens than the model computes logits for, and one that knows no image token."""

    def grow(data: bytes) -> bytes:
        tokenizer = json.loads(data)
        size = max(token["id"] for token in tokenizer["added_tokens"]) + 1
        tokenizer["added_tokens"] += [
            dict(tokenizer["added_tokens"][0], id=size + n, content=f"<extra{n}>") for n in range(300)
        ]
        return json.dumps(tokenizer).encode()

    bundle = spoilt("onnx-fp32", "tokenizer", grow)
    with pytest.raises(BackendError, match=r"the tokenizer has .* tokens, the model computes"):
        stages.open_model(str(bundle.folder))
    path = bundle.file("tokenizer")
    path.write_text(path.read_text(encoding="utf-8").replace('"<image>"', '"<picture>"'), encoding="utf-8")
    files = dict(bundle.files) | {"tokenizer": describe_file(bundle.folder, bundle.files["tokenizer"].path)}
    replace(bundle, files=files).write()
    with pytest.raises(BundleError, match="does not know the image token"):
        stages.open_model(str(bundle.folder))


def test_a_missing_bundle_file_is_named(exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported("gguf-f16"), tmp_path / "bundle")
    bundle = Bundle.load(folder)
    bundle.file("vision").unlink()
    with pytest.raises(BundleError, match=r"\(vision\) is missing"):
        stages.open_model(str(folder))


@pytest.mark.parametrize("name", ["cut.png", "gone.png"])
def test_asking_about_a_broken_picture(exported, photos: Path, name: str) -> None:
    with stages.open_model(str(exported("onnx-fp32"))) as model, pytest.raises(DataError, match=name):
        model.answer(photos / name, QUESTION, Options(max_tokens=4))


# A disk that is full


@pytest.mark.parametrize("profile", ["gguf-f16", "onnx-fp32"])
def test_an_export_onto_a_full_disk(merged_folder: Path, tmp_path: Path, profile: str, file_size_limit) -> None:
    with file_size_limit(200_000), pytest.raises(ExportError):
        stages.export(merged_folder, [profile], tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_bundle_that_fails_its_parity_is_removed(merged_folder: Path, tmp_path: Path, monkeypatch) -> None:
    """The bound is made impossible, not the comparison: 8 bits do not reproduce 32 to a millionth."""
    profile = tmp_path / "strict.yaml"
    profile.write_text("name: strict\ntarget: gguf\nquantization: Q8_0\ndescription: too strict\n"
                       "parity: {max_logit_diff: 1.0e-6, min_top1: 1.0}\n", encoding="utf-8")  # fmt: skip
    with pytest.raises(ExportError):
        stages.export(merged_folder, [str(profile)], tmp_path / "out")
    assert os.listdir(tmp_path) == ["strict.yaml"]
    kept = stages.export(merged_folder, [str(profile)], tmp_path / "out", allow_parity_failure=True)
    assert Bundle.load(kept[0]).parity["passed"] is False
    stamp = (kept[0] / "bundle.json").stat().st_mtime_ns
    assert stages.export(merged_folder, [str(profile)], tmp_path / "out", allow_parity_failure=True) == kept
    assert (kept[0] / "bundle.json").stat().st_mtime_ns == stamp, "it was not made again"
    with pytest.raises(BundleError, match="exists already"):
        stages.export(merged_folder, [str(profile)], tmp_path / "out")


def test_a_report_onto_a_full_disk(tmp_path: Path, monkeypatch) -> None:
    """Whatever was there stays whole when the new text cannot be written."""
    path = tmp_path / "value.json"
    write_text(path, json.dumps({"a": 1}))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, json.dumps({"a": 2}))
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1} and os.listdir(tmp_path) == ["value.json"]


# The starter as it ships


def test_the_shipped_starter_opens_or_says_why_not() -> None:
    from edgereverie.backbones import starter

    if starter.WEIGHTS.is_dir():
        assert stages.model_folder("starter").backbone.name == "starter"
        return
    with pytest.raises(BackboneError, match="not in this installation"):
        stages.model_folder("starter")
