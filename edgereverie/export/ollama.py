"""An Ollama Modelfile: language model and vision file, the conversation as it was trained, what ends an answer.

Ollama fills ``.Messages`` into a Go template. It puts a picture's place directly before the user's text, where training had
a line break between them.
"""

from __future__ import annotations

from pathlib import Path

from edgereverie.bundle import write_text
from edgereverie.chat import ChatFormat

_LONGEST = 4096  # tokens: what the key-value cache is made for, unless the model's context is shorter


def go_template(chat: ChatFormat, *, begins: bool) -> str:
    """The chat format as a Go template over Ollama's messages. begins: the tokenizer writes the first token by itself.

    Line breaks are written as actions, so that nothing that trims or converts the file's own changes them.

    >>> from edgereverie.chat import VICUNA_V1
    >>> go_template(VICUNA_V1, begins=True).partition("{{ range")[2][:72]
    ' .Messages }}{{ if eq .Role "system" }}{{ .Content }} {{ else if eq .Rol'
    """
    content = "{{ .Content }}"
    system = chat.system.format(text=content)
    user = chat.user.format(text=content) + chat.assistant
    answer = chat.lead + content + chat.end + chat.gap
    default = ""
    if chat.default_system:
        default = "{{ if not .System }}" + chat.system.format(text=chat.default_system) + "{{ end }}"
    written = (
        ("" if begins else chat.begin) + default + '{{ range .Messages }}{{ if eq .Role "system" }}' + system
        + '{{ else if eq .Role "user" }}' + user + '{{ else if eq .Role "assistant" }}' + answer + "{{ end }}{{ end }}"
    )  # fmt: skip
    return written.replace("\n", '{{ "\\n" }}')


def modelfile(chat: ChatFormat, *, context: int, begins: bool, pictures: bool) -> str:
    """The Modelfile's text. pictures: whether there is an ``mmproj.gguf`` beside ``model.gguf``."""
    vision = "FROM ./mmproj.gguf" if pictures else "# There is no mmproj.gguf: llama.cpp cannot encode pictures for it."
    stops = "".join(f'PARAMETER stop "{stop}"\n' for stop in chat.stops)
    return (
        "# ollama create NAME -f Modelfile\n"
        "#\n"
        "# Before you trust answers about pictures: released llama.cpp versions, which Ollama's engines come from, feed a\n"
        "# CLIP tower's class token in the wrong place. `edgereverie doctor BUNDLE` tries the llama.cpp that Python sees;\n"
        "# edgereverie itself is not concerned, for it encodes pictures by vision.onnx.\n"
        "FROM ./model.gguf\n"
        f"{vision}\n"
        f'TEMPLATE """{go_template(chat, begins=begins)}"""\n'
        f"{stops}"
        "PARAMETER temperature 0\n"
        f"PARAMETER num_ctx {min(context, _LONGEST)}\n"
    )


def write_modelfile(out: Path, chat: ChatFormat, *, context: int, begins: bool) -> dict[str, str]:
    """Write ``Modelfile`` beside ``model.gguf`` and, where there is one, ``mmproj.gguf``; returns its role."""
    pictures = (out / "mmproj.gguf").is_file()
    write_text(out / "Modelfile", modelfile(chat, context=context, begins=begins, pictures=pictures))
    return {"modelfile": "Modelfile"}
