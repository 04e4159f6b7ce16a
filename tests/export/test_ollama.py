"""Ollama's Modelfile writes conversations as the chat formats do. Its Go template is evaluated here, as far as it goes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgereverie.chat import FORMATS, ChatFormat, render
from edgereverie.export.ollama import go_template, modelfile
from edgereverie.records import Turn

CONVERSATIONS = [
    [Turn("user", "Is there a ring?")],
    [Turn("system", "Be brief."), Turn("user", "Is there a ring?")],
    [Turn("user", "One?"), Turn("assistant", "Two."), Turn("user", 'Three "and" four?\nFive?')],
    [Turn("system", "Be brief."), Turn("user", "One?"), Turn("assistant", "Two."), Turn("user", "Three?"),
     Turn("assistant", "Four."), Turn("user", "Five?")],
]  # fmt: skip


def parse(text: str) -> list[Any]:
    """Go's text/template of actions "...", .Field, if, else if, else, range, end: a list of texts and (action, branches)."""
    tokens = re.split(r"(\{\{.*?\}\})", text)

    def block(at: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        while at < len(tokens):
            token = tokens[at]
            if not token.startswith("{{"):
                found.append(token)
                at += 1
                continue
            action = token[2:-2].strip()
            if action == "end" or action.startswith("else"):
                return found, at
            at += 1
            if action.startswith(("if ", "range ")):
                branches, condition = [], action
                while True:
                    body, at = block(at)
                    branches.append((condition, body))
                    condition = tokens[at][2:-2].strip()
                    at += 1
                    if condition == "end":
                        break
                found.append(branches)
            else:
                found.append((action,))
        return found, at

    nodes, at = block(0)
    assert at == len(tokens), "an end without a beginning"
    return nodes


def evaluate(nodes: list[Any], dot: dict[str, Any]) -> str:
    out = ""
    for node in nodes:
        if isinstance(node, str):
            out += node
        elif isinstance(node, tuple):
            out += json.loads(node[0]) if node[0].startswith('"') else str(dot[node[0].removeprefix(".")])
        elif node[0][0].startswith("range "):
            field = node[0][0].removeprefix("range .")
            out += "".join(evaluate(node[0][1], each) for each in dot[field])
        else:
            chosen = next((body for condition, body in node if holds(condition, dot)), [])
            out += evaluate(chosen, dot)
    return out


def holds(condition: str, dot: dict[str, Any]) -> bool:
    condition = condition.removeprefix("else").strip().removeprefix("if ").strip()
    if not condition:
        return True
    if found := re.fullmatch(r"not \.(\w+)", condition):
        return not dot[found[1]]
    found = re.fullmatch(r'eq \.(\w+) "(\w+)"', condition)
    assert found, condition
    return dot[found[1]] == found[2]


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("chat", FORMATS.values(), ids=list(FORMATS))
def test_the_template_renders_what_the_chat_format_does(chat: ChatFormat, begins: bool) -> None:
    nodes = parse(go_template(chat, begins=begins))
    for turns in CONVERSATIONS:
        system = "\n\n".join(turn.text for turn in turns if turn.role == "system")
        messages = [{"Role": turn.role, "Content": turn.text} for turn in turns]
        found = evaluate(nodes, {"System": system, "Messages": messages})
        expected = "".join(text for text, _ in render(chat, turns, image=False))
        assert found == (expected.removeprefix(chat.begin) if begins else expected)


def test_the_evaluator_knows_what_go_does() -> None:
    """From the documentation of Go's text/template."""
    text = '{{ if eq .A "x" }}one{{ else if eq .A "y" }}two{{ else }}three{{ end }}{{ "\\n" }}'
    assert [evaluate(parse(text), {"A": value}) for value in "xyz"] == ["one\n", "two\n", "three\n"]
    assert evaluate(parse("{{ range .L }}<{{ .V }}>{{ end }}."), {"L": [{"V": 1}, {"V": 2}]}) == "<1><2>."


def test_the_file_says_what_ollama_needs() -> None:
    text = modelfile(FORMATS["phi3"], context=131072, begins=False, pictures=True)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[:2] == ["FROM ./model.gguf", "FROM ./mmproj.gguf"]
    assert lines[2].startswith('TEMPLATE """<s>{{ range .Messages }}') and lines[2].endswith('{{ end }}{{ end }}"""')
    assert lines[3:] == [
        'PARAMETER stop "<|end|>"', 'PARAMETER stop "<|endoftext|>"', "PARAMETER temperature 0", "PARAMETER num_ctx 4096",
    ]  # fmt: skip
    assert "class token in the wrong place" in text
    assert "num_ctx 512" in modelfile(FORMATS["phi3"], context=512, begins=False, pictures=True)
    blind = modelfile(FORMATS["phi3"], context=512, begins=False, pictures=False)
    assert "FROM ./model.gguf\n# There is no mmproj.gguf" in blind and "FROM ./mmproj" not in blind


def test_a_gguf_bundle_carries_one(bundles: Any) -> None:
    bundle = bundles("gguf-f16")
    text = bundle.file("modelfile").read_text(encoding="utf-8")
    for role in ("model", "mmproj"):
        assert f"FROM ./{bundle.file(role).name}\n" in text
    assert "PARAMETER num_ctx 2048" in text
