"""``edgereverie models``: a few lines for each published model, and the same as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from edgereverie.backbones._catalogue import catalogue


def test_every_model_is_told_on_lines_of_its_own(command: Callable[..., Any]) -> None:
    done = command("models")
    assert (done.code, done.err) == (0, "")
    told = dict(re.findall(r"^(\S+)\n((?: {4}.+\n)+)", done.out, re.MULTILINE))
    assert list(told) == [model.id for model in catalogue()]
    assert "7.06 B parameters; licence: Llama 2 Community" in told["llava-hf/llava-1.5-7b-hf"]
    phi3 = told["MBZUAI/LLaVA-Phi-3-mini-4k-instruct"]
    assert re.search(r"tune [\d.]+ GB; run F16 [\d.]+, Q8_0 [\d.]+, Q4_K_M [\d.]+ GB; leaves as gguf, onnx", phi3)
    moe = told["LanguageBind/MoE-LLaVA-StableLM-1.6B-4e"]
    assert "3.20 B parameters, 2.37 B of them for each token" in moe
    assert "non-commercial" in moe and re.search(r"leaves as .*\bonnx", moe)


def test_as_json_in_bytes(command: Callable[..., Any]) -> None:
    rows = {row["id"]: row for row in json.loads(command("models", "--json").out)}
    assert list(rows) == [model.id for model in catalogue()]
    llava = rows["llava-hf/llava-1.5-7b-hf"]
    assert (llava["parameters"], llava["layout"], llava["chat"]) == (7_063_427_072, "huggingface", "vicuna_v1")
    assert llava["run_bytes"]["F16"] > 2 * llava["parameters"] > llava["tune_bytes"]
