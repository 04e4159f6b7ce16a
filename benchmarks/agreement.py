"""Do PyTorch, ONNX and GGUF say the same? Greedy answers on held-out questions, and the distance of their logits.

    python benchmarks/agreement.py MODEL_FOLDER BUNDLE [BUNDLE ...] --data SCENES --questions 200

MODEL_FOLDER is the merged model, SCENES a folder written by ``edgereverie data scenes``. Half of the questions ask for a
description, half are POPE's. Logits are compared along the reference's own answers. Result: benchmarks/results/agreement.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie import stages
from edgereverie.bundle import Bundle, write_text
from edgereverie.chat import encode
from edgereverie.image import open_image, prepare
from edgereverie.records import Options, Turn
from edgereverie.registry import BENCHMARKS
from edgereverie.runtime.model import Model

RESULTS = Path(__file__).parent / "results"


def questions(data: Path, number: int) -> list[tuple[Path, str]]:
    captions = BENCHMARKS.get("chair").items(data, number // 2)
    pope = [item for item in BENCHMARKS.get("pope").items(data) if item.id.startswith("adversarial/")][
        : number - len(captions)
    ]
    return [(item.image, item.question) for item in (*captions, *pope)]


def logits(model: Model, image: Path, question: str, answer: str) -> np.ndarray:
    """At every position of prompt and answer: (tokens, vocabulary)."""
    turns = [Turn("user", question), Turn("assistant", answer)]
    ids, _ = encode(model.tokenizer, model.chat, turns, image_tokens=model.image.tokens)
    stream = model.engine.open()
    try:
        return stream.feed(ids, model.engine.encode(prepare(open_image(image), model.image)), logits="all")
    finally:
        stream.close()


def compare(reference: Model, other: Model, asked: list[tuple[Path, str]], answers: list[str]) -> dict[str, Any]:
    largest, same_top, positions, different = 0.0, 0, 0, []
    for (image, question), expected in zip(asked, answers, strict=True):
        found = other.answer(image, [Turn("user", question)], Options(max_tokens=120)).text
        a, b = (logits(model, image, question, expected) for model in (reference, other))
        largest = max(largest, float(np.abs(a - b).max()))
        same_top += int((a.argmax(-1) == b.argmax(-1)).sum())
        positions += len(a)
        if found != expected:
            ordered = np.sort(a, axis=-1)
            different.append(
                {
                    "image": image.name,
                    "question": question,
                    "expected": expected,
                    "found": found,
                    "smallest_margin": float((ordered[:, -1] - ordered[:, -2]).min()),
                }
            )
    return {
        "equal_answers": 1 - len(different) / len(asked),
        "questions": len(asked),
        "max_logit_diff": largest,
        "top1": same_top / positions,
        "positions": positions,
        "different": different,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=200)
    chosen = parser.parse_args()
    asked = questions(chosen.data, chosen.questions)
    result: dict[str, Any] = {"versions": stages.versions()}
    with stages.open_model(chosen.model, precise=True) as reference:
        answers = [
            reference.answer(image, [Turn("user", question)], Options(max_tokens=120)).text for image, question in asked
        ]
        for path in chosen.bundles:
            bundle = Bundle.load(path)
            with stages.open_model(str(path), precise=True) as other:
                name = f"{bundle.target} {bundle.quantization}"
                result[name] = compare(reference, other, asked, answers)
            told = result[name]
            print(
                f"{name}: {told['equal_answers']:.1%} of {len(asked)} answers equal, largest logit difference "
                f"{told['max_logit_diff']:.2e}, same top token at {told['top1']:.3%} of {told['positions']} positions"
            )
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "agreement.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
