"""Chat formats: turns become token ids and the spans that the loss may see, in one definition for all stages.

Training, the GGUF's chat template and every runtime read the same ``ChatFormat``. Ids always come from the model's own
``tokenizer.json`` through the ``tokenizers`` package: no runtime tokenizes by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgereverie.errors import DataError, EdgeReverieError
from edgereverie.records import Turn
from edgereverie.registry import did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How a conversation is written.

    begin: before everything. user, system: with {text}. assistant: what stands before the answer; end: what ends it and is
    learned with it. gap: between a finished answer and the next turn. image: what stands before the first user text when
    there is a picture; image_token in it is repeated as often as the picture has tokens. stops: tokens that end generation.
    control: tokens that no turn's text may hold. jinja: the same, as a Hugging Face chat template.
    """

    name: str
    begin: str
    system: str
    user: str
    assistant: str
    end: str
    gap: str
    image: str
    image_token: str
    stops: tuple[str, ...]
    control: tuple[str, ...]
    jinja: str


PHI3 = ChatFormat(
    name="phi3",
    begin="<s>",
    system="<|system|>\n{text}<|end|>\n",
    user="<|user|>\n{text}<|end|>\n",
    assistant="<|assistant|>\n",
    end="<|end|>",
    gap="\n",
    image="<image>\n",
    image_token="<image>",
    stops=("<|end|>", "<|endoftext|>"),
    control=("<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>", "<image>"),
    jinja=(
        "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<image>\n' }}"
        "{% endif %}{% endfor %}{% endif %}{{ '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
)
FORMATS = {chat.name: chat for chat in (PHI3,)}


def chat_format(name: str) -> ChatFormat:
    """The format of that name; an unknown one is an error that lists the known."""
    if name not in FORMATS:
        raise EdgeReverieError(f"Unknown chat format {name!r}.", hint=did_you_mean(name, FORMATS))
    return FORMATS[name]


def render(chat: ChatFormat, turns: Sequence[Turn], *, image: bool) -> list[tuple[str, bool]]:
    """The conversation as pieces of text with "is learned" beside each.

    Ends after the last assistant turn's end token, or, when the last turn is a user's, where the answer begins.
    Raises DataError when roles do not alternate, a turn is empty, or a text holds one of the format's own tokens.

    >>> render(PHI3, [Turn("user", "Is there a ring?"), Turn("assistant", "Yes.")], image=False)
    [('<s><|user|>\\nIs there a ring?<|end|>\\n<|assistant|>\\n', False), ('Yes.<|end|>', True)]
    """
    pieces: list[tuple[str, bool]] = []
    prefix = chat.begin
    expected = "user"
    for index, turn in enumerate(turns):
        _check_text(chat, turn, index)
        if turn.role == "system" and index == 0:
            prefix += chat.system.format(text=turn.text)
            continue
        if turn.role != expected:
            raise DataError(
                f"Turn {index + 1} is the {turn.role}'s, where the {expected}'s was expected.",
                hint="User and assistant take turns, the user first.",
            )
        if turn.role == "user":
            prefix += chat.user.format(text=(chat.image if image else "") + turn.text) + chat.assistant
            image = False
            expected = "assistant"
        else:
            pieces += [(prefix, False), (turn.text + chat.end, True)]
            prefix = chat.gap
            expected = "user"
    if expected == "assistant":
        pieces.append((prefix, False))
    if not pieces:
        raise DataError("The conversation has no turns.")
    return pieces


def _check_text(chat: ChatFormat, turn: Turn, index: int) -> None:
    if not turn.text.strip():
        raise DataError(f"Turn {index + 1} ({turn.role}) is empty.")
    for token in chat.control:
        if token in turn.text:
            raise DataError(
                f"Turn {index + 1} ({turn.role}) holds the control token {token!r}.",
                hint="Remove it from the text; the chat format writes it.",
            )


def encode(
    tokenizer: Tokenizer, chat: ChatFormat, turns: Sequence[Turn], *, image_tokens: int
) -> tuple[list[int], list[bool]]:
    """Token ids, and for each whether the loss may see it. image_tokens: 0 for a conversation without a picture.

    The whole text is tokenized at once and tokens find their piece by character offsets, so that training sees the very
    ids that generation continues. A token that straddles a piece's border would be learned in part: that is an error.
    """
    pieces = render(chat, turns, image=image_tokens > 0)
    encoding = tokenizer.encode("".join(text for text, _ in pieces), add_special_tokens=False)
    image_id = tokenizer.token_to_id(chat.image_token)
    control = {tokenizer.token_to_id(token) for token in chat.control}
    borders, end = [], 0
    for text, learned in pieces:
        end += len(text)
        borders.append((end, learned))
    ids: list[int] = []
    learn: list[bool] = []
    piece = 0
    for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        while start >= borders[piece][0] and piece < len(borders) - 1:
            piece += 1
        # Phi-3's control tokens swallow the blank space after them, which may reach into the next piece: that is theirs.
        if stop > borders[piece][0] and token not in control:
            raise DataError(
                f"Token {tokenizer.id_to_token(token)!r} straddles the border of an answer.",
                hint="The tokenizer does not fit the chat format; was tokenizer.json exchanged?",
            )
        repeat = image_tokens if token == image_id else 1
        ids += [token] * repeat
        learn += [borders[piece][1]] * repeat
    if image_tokens and image_id not in ids:
        raise DataError(f"The tokenizer does not know the image token {chat.image_token!r}.")
    return ids, learn


def stop_ids(tokenizer: Tokenizer, chat: ChatFormat) -> frozenset[int]:
    """Ids that end an answer."""
    return frozenset(i for i in map(tokenizer.token_to_id, chat.stops) if i is not None)
