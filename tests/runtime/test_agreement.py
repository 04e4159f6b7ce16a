"""The shipped starter gives the same greedy answers wherever it runs in 32 bit."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

from edgereverie import stages
from edgereverie.data.scenes.draw import draw_scene
from edgereverie.data.scenes.world import make_scene
from edgereverie.export.base import load_profile
from edgereverie.export.write import export_bundle
from edgereverie.records import Answer, Options, Turn
from edgereverie.runtime.model import Model

FORMS = {
    "llama_cpp": ("gguf-f16", {"quantization": "F32"}),
    "onnxruntime": ("onnx-fp32", {"settings": {"cache": "concat"}}),
    "onnxruntime, shared": ("onnx-fp32", {"settings": {"cache": "shared"}}),
}
QUESTIONS = (
    "Describe the image.",
    "Is there a ring in the image?",
    "Is there a blue star in the image?",
    "What is at the left?",
    "How many moons are there in the image?",
)
TIE = 1e-3  # logits of 32-bit backends lie within 3e-5 of each other: a margin like this decides nothing


def answers(model: Model, scenes: int) -> Iterator[Answer]:
    for number in range(scenes):
        picture = draw_scene(make_scene(f"agreement/{number}", 0.5))
        for question in QUESTIONS:
            yield model.answer(picture, [Turn("user", question)], Options(max_tokens=60))


@pytest.fixture(scope="module")
def expected() -> list[Answer]:
    with stages.open_model("starter", precise=True) as model:
        return list(answers(model, 100))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_greedy_answers_agree_on_500_prompts(form: str, expected: list[Answer], tmp_path: Path) -> None:
    from edgereverie.backbones import starter

    if find_spec(form.partition(",")[0]) is None:
        pytest.skip(f"needs {form.partition(',')[0]}")
    profile, changes = FORMS[form]
    profiled = load_profile(profile).model_copy(update=changes)
    export_bundle(starter.shipped(), profiled, tmp_path / "bundle", made_from={"model": "starter"})
    assert len(expected) == 500
    assert sum(len(answer.record) for answer in expected) > 3000
    ties = []
    with Model.load(tmp_path / "bundle", precise=True) as model:
        for known, found in zip(expected, answers(model, 100), strict=True):
            if found.text != known.text:
                pairs = enumerate(zip(known.record, found.record, strict=False))
                at = next(at for at, (one, other) in pairs if one.id != other.id)
                assert known.record[at].margin < TIE, (known.text, found.text)
                ties.append(known.text)
    assert len(ties) <= 1, ties
