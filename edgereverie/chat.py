"""Chat formats: turns become token ids and the spans that the loss may see, in one definition for all stages.

Training, the GGUF's chat template and every runtime read the same ``ChatFormat``. Ids always come from the model's own
``tokenizer.json`` through the ``tokenizers`` package: no runtime tokenizes by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from edgereverie.errors import DataError, EdgeReverieError
from edgereverie.records import Turn
from edgereverie.registry import did_you_mean

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How a conversation is written.

    begin: before everything. user, system: with {text}. assistant: what stands before the answer; lead: what stands between
    it and the answer's first word and is learned with it, because tokenizers join it to that word; end: what ends the
    answer and is learned with it. gap: between a finished answer and the next turn. image: what stands before the first
    user text when there is a picture; image_token in it is repeated as often as the picture has tokens. stops: tokens that
    end generation. control: tokens that no turn's text may hold. jinja: the same, as a Hugging Face chat template.
    default_system: what is said to the model when the conversation itself has no system turn; empty for nothing.
    bare: blanks at an answer's beginning are left out, for tokenizers would join them to the line break before it.
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
    lead: str = ""
    default_system: str = ""
    bare: bool = False

    def answer(self, text: str) -> str:
        """An answer as it is written after ``assistant``, without its end."""
        return self.lead + (text.lstrip() if self.bare else text)


# The pieces of a message's content, a picture as <image> with a line break after it: in every template alike.
_CONTENT = (
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<image>\n' }}"
    "{% endif %}{% endfor %}{% endif %}"
)
_PHI3 = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}" + _CONTENT + "{{ '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_V1_SENTENCE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def _v1(end: str) -> str:
    """The template of ``vicuna_v1`` with this end of answers."""
    return (
        "{% if messages[0]['role'] != 'system' %}{{ \"" + _V1_SENTENCE + ' " }}{% endif %}'
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'USER: ' }}{% endif %}"
        "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT: ' }}{% endif %}"
        + _CONTENT
        + "{{ '"
        + end
        + "' if message['role'] == 'assistant' else ' ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )


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
    jinja="{{ bos_token }}" + _PHI3,
)
# LLaVA-pp's phi3_instruct: the same tokens, and always a system turn.
PHI3_INSTRUCT = replace(
    PHI3,
    name="phi3_instruct",
    default_system="You are a helpful AI assistant.",
    jinja=(
        "{{ bos_token }}{% if messages[0]['role'] != 'system' %}"
        "{{ '<|system|>\nYou are a helpful AI assistant.<|end|>\n' }}{% endif %}" + _PHI3
    ),
)
# LLaVA's vicuna_v1 (llava/conversation.py): no line breaks, the answer follows "ASSISTANT:" after a blank.
VICUNA_V1 = ChatFormat(
    name="vicuna_v1",
    begin="<s>",
    system="{text} ",
    user="USER: {text} ",
    assistant="ASSISTANT:",
    lead=" ",
    end="</s>",
    gap="",
    image="<image>\n",
    image_token="<image>",
    stops=("</s>",),
    control=("<s>", "</s>", "<image>"),
    default_system=_V1_SENTENCE,
    jinja="{{ bos_token }}" + _v1("</s>"),
)
# MoE-LLaVA's (moellava/conversation.py): the same words for all its bases. None of their tokenizers begins a text with a
# token; they differ in the control tokens that they know.
PHI = replace(
    VICUNA_V1,
    name="phi",
    begin="",
    end="<|endoftext|>",
    stops=("<|endoftext|>",),
    control=("<|endoftext|>", "<|extra_0|>", "<image>"),
    jinja=_v1("<|endoftext|>"),
)
QWEN = replace(PHI, name="qwen", control=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>", "<image>"))
STABLELM = replace(
    PHI,
    name="stablelm",
    control=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|endofprompt|>", "<|pause|>", "<|reg0|>", "<image>"),
)
# LLaVA-NeXT's qwen_1_5 (llava/conversation.py, SeparatorStyle.CHATML).
CHATML = ChatFormat(
    name="chatml",
    begin="",
    system="<|im_start|>system\n{text}<|im_end|>\n",
    user="<|im_start|>user\n{text}<|im_end|>\n",
    assistant="<|im_start|>assistant\n",
    end="<|im_end|>",
    gap="\n",
    image="<image>\n",
    image_token="<image>",
    stops=("<|im_end|>", "<|endoftext|>"),
    control=("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<image>"),
    default_system="You are a helpful assistant.",
    bare=True,
    jinja=(
        "{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        + _CONTENT
        + "{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
)
FORMATS = {chat.name: chat for chat in (PHI3, PHI3_INSTRUCT, VICUNA_V1, STABLELM, PHI, QWEN, CHATML)}


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
    if chat.default_system and not (turns and turns[0].role == "system"):
        prefix += chat.system.format(text=chat.default_system)
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
            pieces += [(prefix, False), (chat.answer(turn.text) + chat.end, True)]
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
    tokenizer: Tokenizer, chat: ChatFormat, turns: Sequence[Turn], *, image_tokens: int, image_id: int | None = None
) -> tuple[list[int], list[bool]]:
    """Token ids, and for each whether the loss may see it.

    image_tokens: 0 for a conversation without a picture. image_id: the id that the model takes for the picture's tokens;
    needed where the tokenizer has none of its own, as in LLaVA's original layout.

    The whole text is tokenized at once and tokens find their piece by character offsets, so that training sees the very
    ids that generation continues. Raises DataError for a token that straddles a piece's border (it would be learned in
    part), and for a tokenizer that does not know the format's end token or has another image token than the model.
    """
    pieces = render(chat, turns, image=image_tokens > 0)
    image_id = _image_id(tokenizer, chat, image_id, needed=image_tokens > 0)
    ids: list[int] = []
    learn: list[bool] = []
    for token, _, _, piece in tokenize(tokenizer, chat, pieces, image_id):
        repeat = image_tokens if token == image_id else 1
        ids += [token] * repeat
        learn += [pieces[piece][1]] * repeat
    last = tokenizer.token_to_id(chat.end)
    ends = sum(token == last and learned for token, learned in zip(ids, learn, strict=True))
    if ends != sum(learned for _, learned in pieces):
        raise DataError(
            f"The tokenizer does not know {chat.end!r}, which ends an answer.",
            hint=f"Chat format {chat.name!r} needs it as a special token of the tokenizer.",
        )
    return ids, learn


def _image_id(tokenizer: Tokenizer, chat: ChatFormat, given: int | None, *, needed: bool) -> int | None:
    known = tokenizer.token_to_id(chat.image_token)
    if given is not None and known not in (None, given):
        raise DataError(
            f"The tokenizer's {chat.image_token!r} is token {known}, the model's config says {given}.",
            hint="Take the tokenizer and config.json from the same model.",
        )
    if needed and known is None and given is None:
        raise DataError(f"The tokenizer does not know the image token {chat.image_token!r}.")
    return given if known is None else known


def tokenize(
    tokenizer: Tokenizer, chat: ChatFormat, pieces: Sequence[tuple[str, bool]], image_id: int | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """The tokens of ``render``'s pieces: id, first and last character + 1 in the joined text, and which piece it belongs to.

    Characters count from 0 in the whole text. A picture is one token, ``image_id``, or missing where that is None.
    """
    borders = list(accumulate(len(text) for text, _ in pieces))
    control = {tokenizer.token_to_id(token) for token in chat.control}
    piece = 0
    for token, start, stop in _stretches(tokenizer, chat, "".join(text for text, _ in pieces), image_id):
        while start >= borders[piece] and piece < len(borders) - 1:
            piece += 1
        # Phi-3's control tokens swallow the blank space after them, which may reach into the next piece: that is theirs.
        if stop > borders[piece] and token not in control:
            raise DataError(
                f"Token {tokenizer.id_to_token(token)!r} straddles the border of an answer.",
                hint="The tokenizer does not fit the chat format; was tokenizer.json exchanged?",
            )
        yield token, start, stop, piece


def _stretches(
    tokenizer: Tokenizer, chat: ChatFormat, text: str, image_id: int | None
) -> Iterator[tuple[int, int, int]]:
    """Token ids with their characters.

    A tokenizer that knows the image token finds it in the text. For one that does not, the text around it is tokenized
    stretch by stretch with ``image_id`` between them, as LLaVA's tokenizer_image_token does.
    """
    foreign = tokenizer.token_to_id(chat.image_token) is None
    begin = 0
    for index, stretch in enumerate(text.split(chat.image_token) if foreign else [text]):
        if index and image_id is not None:
            yield image_id, begin - len(chat.image_token), begin
        encoding = tokenizer.encode(stretch, add_special_tokens=False)
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            yield token, begin + start, begin + stop
        begin += len(stretch) + len(chat.image_token)


def stop_ids(tokenizer: Tokenizer, chat: ChatFormat) -> frozenset[int]:
    """Ids that end an answer."""
    return frozenset(i for i in map(tokenizer.token_to_id, chat.stops) if i is not None)
