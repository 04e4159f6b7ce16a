"""The stand-alone runners write a question as the chat formats do, and answer as the model itself does."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgereverie.chat import FORMATS, encode, render, stop_ids
from edgereverie.export.prompt import prompt_pieces
from edgereverie.records import Turn
from edgereverie.shipped import shipped

QUESTION = "Is {a} ring there?"
GUARD = """
import builtins, runpy, sys
real = builtins.__import__
def guarded(name, *a, **k):
    assert name.partition(".")[0] not in ("edgereverie", "torch", "transformers"), name
    return real(name, *a, **k)
builtins.__import__ = guarded
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("chat", FORMATS.values(), ids=list(FORMATS))
def test_the_pieces_make_what_the_chat_format_renders(chat: Any) -> None:
    pieces = json.loads(json.dumps(prompt_pieces(chat)))
    rendered = "".join(text for text, _ in render(chat, [Turn("user", QUESTION)], image=True))
    assert pieces["before"] + QUESTION + pieces["after"] == rendered
    rendered = "".join(text for text, _ in render(chat, [Turn("user", QUESTION)], image=False))
    assert pieces["before_text"] + QUESTION + pieces["after"] == rendered
    turns = [Turn("user", "One?"), Turn("assistant", "Two."), Turn("user", QUESTION)]
    rendered = "".join(text for text, _ in render(chat, turns, image=True))
    lead = chat.lead  # learned as part of the answer, and generated with it
    written = (
        pieces["before"] + "One?" + pieces["after"] + lead + "Two." + pieces["between"] + QUESTION + pieces["after"]
    )
    assert written == rendered
    assert (pieces["image"], tuple(pieces["stops"])) == (chat.image_token, chat.stops)


@pytest.fixture(scope="module")
def tokenizers_of() -> dict[str, Any]:
    """By chat format, a byte-level tokenizer that knows its control tokens, with and without a token for the picture."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    def make(tokens: list[str]) -> Any:
        letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        tokenizer = Tokenizer(models.BPE(letters, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
        return tokenizer

    return {
        name: [make(list(chat.control)), make([token for token in chat.control if token != chat.image_token])]
        for name, chat in FORMATS.items()
    }


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("runner", ["run_gguf.py", "run_onnx.py"])
def test_the_runners_ids_are_the_chats(name: str, runner: str, tokenizers_of: dict[str, Any]) -> None:
    pytest.importorskip("llama_cpp")
    pytest.importorskip("onnxruntime")
    tokenize = runpy.run_path(str(shipped("export") / "runners" / runner))["tokenize"]
    chat = FORMATS[name]
    for tokenizer in tokenizers_of[name]:
        marker = tokenizer.token_to_id(chat.image_token)
        image = 999 if marker is None else marker
        expected, _ = encode(tokenizer, chat, [Turn("user", QUESTION)], image_tokens=5, image_id=image)
        before, after = tokenize(tokenizer, prompt_pieces(chat), QUESTION)
        assert [*before, *[image] * 5, *after] == expected
        assert {tokenizer.token_to_id(stop) for stop in prompt_pieces(chat)["stops"]} - {None} == stop_ids(
            tokenizer, chat
        )


@pytest.mark.parametrize("profile", ["gguf-f16", "onnx-fp32"])
def test_a_runner_alone_answers_as_the_runtime_does(profile: str, bundles: Any, tmp_path: Path) -> None:
    """With neither edgereverie nor torch; greedy both."""
    from edgereverie.records import Options
    from edgereverie.runtime.model import Model

    bundle = bundles(profile)
    script = shipped("export") / "runners" / f"run_{bundle.target}.py"
    picture, question = bundle.file("probe_image"), "Is there a ring?"
    command = [sys.executable, "-c", GUARD, str(script), str(bundle.folder), str(picture), question]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    with Model.load(bundle.folder, precise=bundle.target == "onnx") as model:
        asked = model.respond(picture, [Turn("user", question)], Options(max_tokens=128))
        expected = "".join(asked).strip()
    # An untrained model is seldom sure: where two kernels round differently, a near tie may turn.
    assert done.stdout.strip()[:24] == expected[:24]


def test_usage_is_told_without_arguments() -> None:
    for runner in ("run_gguf.py", "run_onnx.py"):
        script = shipped("export") / "runners" / runner
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1 and f"python {runner} BUNDLE IMAGE" in done.stderr
        assert len(script.read_text().splitlines()) <= 100
