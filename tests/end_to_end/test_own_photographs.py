"""Somebody's own photographs, from ``train`` to ``ask``, by the command line alone.

Four COCO photographs with rows in REVERIE's published form, written by looking at them. The untrained starter cannot
understand them; what is checked is that every step does its work on them and counts right.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgereverie.bundle import Bundle
from edgereverie.cli.app import main

for package in ("torch", "transformers", "peft", "onnxruntime", "onnx"):
    pytest.importorskip(package)

EXPLAIN = "Explain why. Include any necessary facts or knowledge."
EXPLAIN_WRONG = "Explain why this answer is wrong: {} Include any necessary facts or knowledge."


def conversation(*texts: str) -> list[dict[str, str]]:
    speakers = ("human", "gpt") * 2
    return [{"from": who, "value": ("<image>\n" if i == 0 else "") + text}
            for i, (who, text) in enumerate(zip(speakers, texts, strict=False))]  # fmt: skip


@pytest.fixture(scope="module")
def photographs(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user would have it: images/, reverie.json and a recipe."""
    found = sorted((golden / "images").glob("*.jpg"))
    if len(found) < 4:
        pytest.skip("the golden data hold no photographs")
    folder = tmp_path_factory.mktemp("own data")
    (folder / "images").mkdir()
    rows = []
    for number, path in enumerate(found[:4]):
        shutil.copy(path, folder / "images" / path.name)
        question, answer = "Is this a photograph of a submarine?", "No, it is not."
        why, why_not = (
            "A submarine is a ship under water; none is to be seen here.",
            "No hull and no sea is in the photo.",
        )
        begin = (question, answer)
        for name, texts in (("why", (EXPLAIN, why)), ("why-not", (EXPLAIN_WRONG.format("Yes, it is."), why_not))):
            rows.append({"id": f"{number}-{name}", "image": path.name, "conversations": conversation(*begin, *texts)})
    (folder / "reverie.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


def edgereverie(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run one command that has to succeed; what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    assert left.value.code == 0, printed.err
    return printed.out


def test_from_train_to_ask(
    photographs: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = photographs / "my.yaml"
    recipe.write_text(
        f"name: my-photos\nbackbone: {{model: '{tiny_folder}'}}\n"
        "data:\n  train:\n    - path: reverie.json\n  images: images\n"
        "train: {epochs: 1, batch_size: 4, precision: fp32, log_every: 1, learning_rate: 2.0e-3, warmup: 0.0,\n"
        "        lora: {rank: 8, alpha: 16, dropout: 0.0}}\n",
        encoding="utf-8",
    )
    counted = edgereverie(capsys, "train", recipe, "--dry-run")
    assert "8 samples as reverie" in counted

    run = tmp_path / "run"
    edgereverie(capsys, "train", recipe, "--out", run)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["step"] for entry in log] == [1, 2], "8 samples in batches of 4, once"
    card = (run / "adapter" / "README.md").read_text(encoding="utf-8")
    told = json.loads(card.partition("```json\n")[2].partition("\n```")[0])
    assert told["total"] == 8 and told["images"] == 4 and told["rationale"] == {"positive": 4, "negative": 4}

    edgereverie(capsys, "merge", run)
    edgereverie(capsys, "export", run / "merged", "--profile", "onnx-int8", "--out", tmp_path / "bundles")
    (bundle,) = (tmp_path / "bundles").iterdir()
    assert Bundle.load(bundle).parity["passed"] is True and not Bundle.load(bundle).faults()

    photo = next((photographs / "images").iterdir())
    words = ("ask", bundle, "Is this a submarine?", "--image", photo, "--max-tokens", 8, "--json", "--guard", "flag")
    answer = json.loads(edgereverie(capsys, *words))["answer"]
    assert answer["backend"] == "onnxrt" and 0 < answer["tokens"] <= 8 and 0 < answer["confidence"] <= 1
    again = json.loads(edgereverie(capsys, *words))["answer"]
    assert again["text"] == answer["text"] and again["claims"] == answer["claims"]


def test_a_photograph_that_is_missing_is_named(
    photographs: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(photographs, tmp_path / "own")
    gone = sorted((own / "images").iterdir())[2]
    gone.unlink()
    (own / "bad.yaml").write_text(
        f"name: bad\nbackbone: {{model: '{tiny_folder}'}}\ndata:\n  train: [{{path: reverie.json}}]\n  images: images\n",
        encoding="utf-8",
    )
    with pytest.raises(SystemExit) as left:
        main(["train", str(own / "bad.yaml"), "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err
    assert left.value.code == 1
    assert gone.name in told and "2-why" in told and "hint:" in told and "Traceback" not in told
    assert not (tmp_path / "run" / "adapter").exists()
