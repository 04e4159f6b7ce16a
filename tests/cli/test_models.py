"""``edgereverie models``: a line for each published model, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from edgereverie.backbones._catalogue import catalogue


def test_every_model_has_a_line(command: Callable[..., Any]) -> None:
    done = command("models")
    assert (done.code, done.err) == (0, "")
    lines = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    assert {model.id for model in catalogue()} <= set(lines)
    assert "7.06 B" in lines["llava-hf/llava-1.5-7b-hf"] and "Llama 2" in lines["llava-hf/llava-1.5-7b-hf"]
    assert "Q4_K_M" in lines["MBZUAI/LLaVA-Phi-3-mini-4k-instruct"]
    assert "3.20 B (2.37 B)" in lines["LanguageBind/MoE-LLaVA-StableLM-1.6B-4e"]


def test_as_json_in_bytes(command: Callable[..., Any]) -> None:
    rows = {row["id"]: row for row in json.loads(command("models", "--json").out)}
    assert list(rows) == [model.id for model in catalogue()]
    llava = rows["llava-hf/llava-1.5-7b-hf"]
    assert (llava["parameters"], llava["layout"], llava["chat"]) == (7_063_427_072, "huggingface", "vicuna_v1")
    assert llava["run_bytes"]["fp16"] > 2 * llava["parameters"] > llava["tune_bytes"]
