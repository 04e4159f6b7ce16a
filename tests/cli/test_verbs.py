"""Each verb hands its stage exactly what the command line said, and prints where the result lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgereverie import stages
from edgereverie.bundle import Bundle
from edgereverie.recipe import load_recipe, shipped, shipped_recipes

Command = Callable[..., Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every stage is replaced by one that notes its arguments and returns a path; signatures are the real ones."""
    import inspect

    noted: list[tuple[Any, ...]] = []

    def replace(name: str, result: Any) -> None:
        signature = inspect.signature(getattr(stages, name))

        def stage(*positional: Any, **named: Any) -> Any:
            bound = signature.bind(*positional, **named)
            noted.append((name, dict(bound.arguments)))
            return result

        monkeypatch.setattr(stages, name, stage)

    for name, result in {
        "draw_scenes": Path("scenes"), "train": Path("runs/x/adapter"), "merge": Path("runs/x/merged"),
        "export": [Path("bundles/a"), Path("bundles/b")], "evaluate": Path("report"), "demo": Path("edgereverie-demo"),
    }.items():  # fmt: skip
        replace(name, result)
    return noted


def test_train(command: Command, calls: list[Any], recipe_file: Callable[[str], Path]) -> None:
    path = recipe_file("name: x\ndata: {scenes: {count: 1}}\n")
    done = command("train", str(path), "--set", "train.steps=3", "--set", "train.seed=4", "--out", "o", "--no-resume")
    ((name, given),) = calls
    recipe = given.pop("recipe")
    assert (name, given) == ("train", {"out": Path("o"), "resume": False, "force": False, "anyway": False})
    assert (recipe.train.steps, recipe.train.seed) == (3, 4)
    assert (done.code, done.out) == (0, "wrote runs/x/adapter\nnext: edgereverie merge runs/x/adapter\n")


def test_train_dry_run_prints_a_recipe_that_reads_back_and_runs_nothing(
    command: Command, calls: list[Any], recipe_file: Callable[[str], Path], tmp_path: Path
) -> None:
    path = recipe_file("name: x\ndata: {scenes: {count: 12, diet: reflective}}\n")
    done = command("train", str(path), "--dry-run", "--set", "train.learning_rate=1e-5")
    assert (done.code, calls) == (0, [])
    assert "# scenes: 12 pictures x 1 conversations, reflective diet" in done.out
    (tmp_path / "again.yaml").write_text(done.out, encoding="utf-8")
    assert load_recipe(tmp_path / "again.yaml") == load_recipe(path, ["train.learning_rate=1e-5"])


def test_train_with_a_wrong_recipe_lists_all_faults(command: Command, calls: list[Any], recipe_file: Any) -> None:
    path = recipe_file("name: x\ndata: {scenes: {count: 0}}\ntrain: {stesp: 3}\n")
    done = command("train", str(path), "--set", "train.lora.rank=0")
    assert (done.code, calls) == (1, [])
    assert done.err.splitlines() == [
        f"error: {path}:2: data.scenes.count: should be greater than or equal to 1 (got 0).",
        f"{path}:3: train.stesp: unknown key. Did you mean 'steps'?",
        "--set train.lora.rank=0: train.lora.rank: should be greater than or equal to 1 (got 0).",
    ]


def test_merge(command: Command, calls: list[Any]) -> None:
    done = command("merge", "runs/x", "--base", "org/name", "--out", "m", "--force")
    assert calls == [("merge", {"adapter": Path("runs/x"), "out": Path("m"), "base": "org/name", "force": True})]
    assert done.out.splitlines()[1] == "next: edgereverie export runs/x/merged --profile gguf-q8-0"


def test_export(command: Command, calls: list[Any]) -> None:
    done = command("export", "starter", "--profile", "gguf-q8-0", "--profile", "onnx-int8", "--allow-parity-failure",
                   "--prompts", "100", "--scores", "20")  # fmt: skip
    assert calls == [("export", {"model": "starter", "profiles": ["gguf-q8-0", "onnx-int8"], "out": None, "prompts": 100,
                                 "scores": 20, "dry_run": False, "force": False, "allow_parity_failure": True})]  # fmt: skip
    assert done.out.splitlines()[:2] == ["wrote bundles/a", "wrote bundles/b"]
    assert command("export", "starter").code == 2
    assert command("export", "starter", "--profile", "x", "--prompts", "0").code == 2


def test_a_stopped_export_says_that_it_goes_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "export", stop)
    done = command("export", "starter", "--profile", "gguf-q8-0")
    assert done.code == 130
    assert done.err.splitlines() == [
        "stopped",
        "Run the same command again: bundles that are whole are not made again.",
    ]


def test_export_dry_run_says_what_it_takes(command: Command, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("export", str(tiny_folder), "--profile", "gguf-q8-0", "--out", str(out), "--dry-run")
    assert (done.code, done.out) == (0, "") and not out.exists()
    head, row = done.err.splitlines()
    assert head.split("  ")[0] == "export" and row.startswith("gguf-q8-0") and row.count("about") == 4


def test_eval(command: Command, calls: list[Any]) -> None:
    done = command("eval", "a", "b", "--bench", "chair, pope", "--limit", "5", "--data", "d", "--out", "r")
    plain = {"images": None, "splits": [], "asked": stages.Asked(), "judge": None, "labels": (), "card": False}
    assert calls == [("evaluate", {"models": ["a", "b"], "benchmarks": ["chair", "pope"], "data": Path("d"), "limit": 5,
                                   "out": Path("r")} | plain)]  # fmt: skip
    assert done.out == "wrote report/report.html\n"


def test_eval_hands_every_option_on(command: Command, calls: list[Any]) -> None:
    command(
        "eval", "http://127.0.0.1:8080/v1", "--bench", "pope/official", "--images", "i", "--split", "random, popular",
        "--append", " In one word. ", "--guard", "flag,reflect", "--backend", "onnxrt", "--jobs", "3", "--label", "x",
        "--card", "--served-model", "m", "--key-env", "KEY", "--judge", "starter", "--judge-model", "j",
        "--judge-key-env", "JK", "--judgements", "said.json",
    )  # fmt: skip
    ((_, given),) = calls
    assert given["asked"] == stages.Asked("flag,reflect", "In one word.", "onnxrt", 3, "m", "KEY")
    assert given["judge"] == stages.JudgeAt("starter", Path("said.json"), "j", "JK", 3)
    assert (given["images"], given["splits"], given["labels"], given["card"]) == (
        Path("i"), ["random", "popular"], ["x"], True,
    )  # fmt: skip


@pytest.mark.parametrize(("words", "message"), [
    (["--served-model", "m"], "--served-model go with a server, and none is named."),
    (["--judge-model", "j"], "--judge-model and --judge-key-env go with --judge"),
    (["--guard", "flag", "--guard-profile", "fast"], "name guards or a profile, not both"),
    (["--guard", "contrast,search"], "both decide how the answer is generated"),
    (["--jobs", "0"], "should be greater than or equal to 1"),
])  # fmt: skip
def test_eval_refuses_what_means_nothing(command: Command, calls: list[Any], words: list[str], message: str) -> None:
    done = command("eval", "m", *words)
    assert done.code != 0 and message in done.err and not calls


def test_eval_prints_the_report_and_says_how_to_go_on(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text('{"edgereverie": "report"}')
    monkeypatch.setattr(stages, "evaluate", lambda *_, **__: tmp_path)
    assert json.loads(command("eval", "m", "--json").out) == {"edgereverie": "report"}

    def stopped(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "evaluate", stopped)
    done = command("eval", "m")
    assert (done.code, done.err.splitlines()[-1]) == (130, "Run the same command again: it goes on where it was.")


def test_data_scenes(command: Command, calls: list[Any]) -> None:
    command("data", "scenes", "s", "--train", "10", "--heldout", "4", "--seed", "7", "--companion-share", "0.5")
    assert calls == [("draw_scenes", {"out": Path("s"), "train": 10, "heldout": 4, "seed": 7, "companion_share": 0.5,
                                      "force": False})]  # fmt: skip
    assert command("data", "scenes", "s", "--companion-share", "1.5").code == 2


def test_demo(command: Command, calls: list[Any]) -> None:
    command("demo", "--quick", "--seed", "3")
    assert calls == [("demo", {"out": Path("edgereverie-demo"), "seed": 3, "quick": True})]


def test_bundle_check_and_show(command: Command, small_bundle: Bundle) -> None:
    folder = str(small_bundle.folder)
    licences = [
        {"of": "base", "name": "starter", "licence": "Apache-2.0"},
        {"of": "data", "name": "d", "licence": "CC"},
    ]
    parity = dict(small_bundle.parity) | {"tokenization": {"strings": 440, "equal": 436}, "scores": {"metrics": {
        "chair/table/chair_i": {"model": {"value": 0.25, "low": 0.125, "high": 0.5}, "bundle": {"value": None}}}}}  # fmt: skip
    replace(small_bundle, made_from={"base": "starter", "licences": licences}, parity=parity).write()
    done = command("bundle", "check", folder)
    assert (done.code, done.out.splitlines()) == (0, [
        "parity: 100.0% same top tokens on 4 prompts",
        "tokenization: 436 of 440 strings as the model's own tokenizer",
        "chair/table/chair_i: n/a, the model 0.250 (0.125 to 0.500)",
        "calibration: none",
        "hallucination card: none; edgereverie eval --card writes one",
        "licence: base: starter: Apache-2.0",
        "licence: data: d: CC",
        f"{folder}: whole, 6 files agree with the manifest.",
    ])  # fmt: skip
    shown = command("bundle", "show", folder).out
    assert "gguf, Q8_0" in shown and "96 x 96, 36 tokens, pad" in shown and "made from: base" in shown
    assert "starter: Apache-2.0" in shown and "parity: top1" in shown and "436 of 440" in shown
    manifest = json.loads(command("bundle", "show", folder, "--json").out)
    assert manifest["files"]["model"]["bytes"] == 204 and "folder" not in manifest


def test_a_bundle_that_failed_its_parity_does_not_pass_its_check(command: Command, small_bundle: Bundle) -> None:
    faults = ["Logits differ by up to 3; the profile allows 1."]
    replace(small_bundle, parity={"passed": False, "top1": 0.25, "cases": 4, "faults": faults}).write()
    done = command("bundle", "check", str(small_bundle.folder))
    told = f"parity: NOT LIKE ITS MODEL (25.0% same top tokens on 4 prompts): {faults[0]}"
    assert done.code == 1 and told in done.out
    assert "its files are whole, but it failed the comparison" in done.err and "--allow-parity-failure" in done.err
    assert told.removeprefix("parity: ")[:40] in command("bundle", "show", str(small_bundle.folder)).out


def test_bundle_check_finds_a_changed_byte(command: Command, small_bundle: Bundle) -> None:
    path = small_bundle.file("model")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    done = command("bundle", "check", str(small_bundle.folder))
    assert done.code == 1
    assert "model.gguf (model) was changed" in done.err and "hint: " in done.err


def test_bundle_diff(command: Command, small_bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(small_bundle.folder, tmp_path / "other")
    words = ("bundle", "diff", str(small_bundle.folder), str(other))
    assert (command(*words).code, command(*words).out) == (0, "The same: every file and every figure.\n")
    replace(small_bundle, folder=other, quantization="Q4_0").write()
    done = command(*words)
    assert done.code == 1 and done.out.splitlines()[-1].split() == ["quantization", "Q8_0", "Q4_0"]
    assert json.loads(command(*words, "--json").out) == [{"what": "quantization", "one": "Q8_0", "other": "Q4_0"}]


def test_bundle_pack_and_unpack(command: Command, small_bundle: Bundle) -> None:
    folder, packed = small_bundle.folder, small_bundle.folder.with_name("small.bundle.zip")
    done = command("bundle", "pack", str(folder))
    assert (done.code, done.out) == (0, f"wrote {packed}\nnext: edgereverie bundle unpack {packed}\n")
    assert command("bundle", "pack", str(folder)).code == 1
    assert command("bundle", "unpack", str(packed)).code == 1, "small/ exists already"
    folder.rename(folder.with_name("kept"))
    done = command("bundle", "unpack", str(packed))
    assert (done.code, done.out) == (0, f"wrote {folder}\nnext: edgereverie bundle check {folder}\n")
    assert command("bundle", "diff", str(folder), str(folder.with_name("kept"))).code == 0
    packed.write_bytes(packed.read_bytes()[:-30])
    done = command("bundle", "unpack", str(packed), "--out", str(folder.with_name("new")))
    assert done.code == 1 and "not a packed bundle, or damaged" in done.err and not folder.with_name("new").exists()


def test_recipes_list_and_copy(command: Command, tmp_path: Path) -> None:
    names = [line.split()[0] for line in command("recipes", "list").out.splitlines()]
    assert names == shipped_recipes() and names
    target = tmp_path / "new" / "mine.yaml"
    assert command("recipes", "copy", names[0], str(target)).code == 0
    assert target.read_text(encoding="utf-8") == (shipped("recipes") / f"{names[0]}.yaml").read_text(encoding="utf-8")
    done = command("recipes", "copy", names[0], str(target))
    assert done.code == 1 and "exists already" in done.err
    assert command("recipes", "copy", names[0], str(target), "--force").code == 0
    assert command("recipes", "copy", names[0], str(tmp_path)).code == 0
    assert (tmp_path / f"{names[0].split('/')[1]}.yaml").is_file()
    done = command("recipes", "copy", "../../etc/passwd", str(tmp_path / "x"))
    assert done.code == 1 and "No shipped recipe is called" in done.err
