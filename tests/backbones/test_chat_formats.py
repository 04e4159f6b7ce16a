"""The published backbones' chat formats: their text, written out by hand, and what is learned under each kind of tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edgereverie.backbones.starter import build_tokenizer
from edgereverie.chat import (
    CHATML,
    FORMATS,
    PHI,
    PHI3_INSTRUCT,
    QWEN,
    STABLELM,
    VICUNA_V1,
    ChatFormat,
    encode,
    render,
    tokenize,
)
from edgereverie.errors import DataError
from edgereverie.records import Turn

ASK, YES = Turn("user", "Is there a ring?"), Turn("assistant", "Yes, a red ring.")
AGAIN, NO = Turn("user", "And a heart?"), Turn("assistant", "No.")
SENTENCE = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CORPUS = [SENTENCE, "USER: Is there a ring? ASSISTANT: Yes, a red ring.", "And a heart? No, there is a blue star."] * 20
# The pattern of cl100k_base, which Qwen and StableLM's arcade100k split by (tiktoken's openai_public.py).
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
STABLELM_TOKENS = ("<|endoftext|>", "<|endofprompt|>", "<|im_start|>", "<|im_end|>", "<|pause|>", "<|reg0|>")
QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>")


def sentencepiece(*control: str) -> Tokenizer:
    """SentencePiece's BPE as in Llama's tokenizer.json: a blank before every stretch, byte fallback, <s> and </s>."""
    written = json.loads(build_tokenizer(CORPUS).to_str())
    written["added_tokens"] = [token for token in written["added_tokens"] if token["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer


def _byte_level(learner: Tokenizer, *control: str) -> Tokenizer:
    learner.decoder = decoders.ByteLevel()
    learner.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    learner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return learner


def gpt2(*control: str, trim: bool) -> Tokenizer:
    """Byte-level BPE as in Phi-2's tokenizer.json. trim: whether offsets leave out a token's blanks, as GPT-2's own does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    return _byte_level(tokenizer, *control)


def tiktoken(*control: str, nfc: bool) -> Tokenizer:
    """Bytes split by cl100k's pattern, no token at the beginning. nfc: Qwen's tokenizer composes characters first."""
    tokenizer = Tokenizer(models.BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return _byte_level(tokenizer, *control)


KINDS: dict[str, tuple[ChatFormat, Callable[[], Tokenizer]]] = {
    "vicuna, Hugging Face layout": (VICUNA_V1, lambda: sentencepiece("<image>", "<pad>")),
    "vicuna, original layout": (VICUNA_V1, sentencepiece),
    "phi3": (PHI3_INSTRUCT, lambda: build_tokenizer(CORPUS)),
    "phi-2": (PHI, lambda: gpt2("<|endoftext|>", trim=False)),
    "phi-2, trimmed offsets": (PHI, lambda: gpt2("<|endoftext|>", "<|extra_0|>", trim=True)),
    "qwen": (QWEN, lambda: tiktoken(*QWEN_TOKENS, nfc=True)),
    "qwen with an image token": (QWEN, lambda: tiktoken(*QWEN_TOKENS, "<image>", nfc=True)),
    "stablelm": (STABLELM, lambda: tiktoken(*STABLELM_TOKENS, nfc=False)),
    "chatml": (CHATML, lambda: tiktoken(*QWEN_TOKENS, "<image>", nfc=True)),
}
BUILT: dict[str, Tokenizer] = {}


def built(kind: str) -> tuple[ChatFormat, Tokenizer]:
    chat, build = KINDS[kind]
    if kind not in BUILT:
        BUILT[kind] = build()
    return chat, BUILT[kind]


def image_id(tokenizer: Tokenizer) -> int:
    """The tokenizer's own image token, or the first row behind it, as LLaVA's converted checkpoints have it."""
    own = tokenizer.token_to_id("<image>")
    return tokenizer.get_vocab_size() if own is None else own


# The text


def written(chat: ChatFormat, turns: list[Turn], *, image: bool) -> str:
    return "".join(text for text, _ in render(chat, turns, image=image))


def test_vicuna_v1_as_llava_writes_it() -> None:
    """conv_vicuna_v1 of llava/conversation.py, SeparatorStyle.TWO: system, blank, "ROLE: message" and " " or "</s>" in turn."""
    assert written(VICUNA_V1, [ASK, YES, AGAIN], image=True) == (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nIs there a ring? ASSISTANT: Yes, a red "
        "ring.</s>USER: And a heart? ASSISTANT:"
    )


@pytest.mark.parametrize("chat", [PHI, QWEN, STABLELM], ids=lambda chat: chat.name)
def test_moe_llava_writes_the_same_with_its_own_end(chat: ChatFormat) -> None:
    """conv_phi, conv_stablelm of moellava/conversation.py (where "qwen" is conv_phi): sep2 is <|endoftext|>, no <s>."""
    assert written(chat, [ASK, YES, AGAIN, NO], image=True) == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
        "and polite answers to the user's questions. USER: <image>\nIs there a ring? ASSISTANT: Yes, a red "
        "ring.<|endoftext|>USER: And a heart? ASSISTANT: No.<|endoftext|>"
    )


def test_llava_pp_says_that_phi3_is_helpful() -> None:
    """conv_phi3_instruct of LLaVA-pp's Phi-3-V/conversation.py, SeparatorStyle.MPT: <|end|> after system and every message."""
    assert written(PHI3_INSTRUCT, [ASK, YES, AGAIN], image=True) == (
        "<s><|system|>\nYou are a helpful AI assistant.<|end|>\n<|user|>\n<image>\nIs there a ring?<|end|>\n<|assistant|>\n"
        "Yes, a red ring.<|end|>\n<|user|>\nAnd a heart?<|end|>\n<|assistant|>\n"
    )


def test_llava_next_writes_chatml_for_qwen() -> None:
    """conv_qwen of LLaVA-NeXT's llava/conversation.py (qwen_1_5), SeparatorStyle.CHATML: a line break after every turn."""
    assert written(CHATML, [ASK, YES, AGAIN], image=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\nIs there a ring?<|im_end|>\n"
        "<|im_start|>assistant\nYes, a red ring.<|im_end|>\n<|im_start|>user\nAnd a heart?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_line_break_before_an_answer_does_not_join_the_formats_own() -> None:
    """Byte-level tokenizers have a token for two line breaks, which would be half of the prompt and half of the answer."""
    _, tokenizer = built("chatml")
    expected = encode(tokenizer, CHATML, [ASK, YES], image_tokens=0)
    assert encode(tokenizer, CHATML, [ASK, Turn("assistant", "\n " + YES.text)], image_tokens=0) == expected


def test_a_system_turn_takes_the_place_of_the_default() -> None:
    brief = [Turn("system", "Be brief."), ASK]
    assert written(VICUNA_V1, brief, image=False) == "<s>Be brief. USER: Is there a ring? ASSISTANT:"
    assert written(PHI3_INSTRUCT, brief, image=False).startswith("<s><|system|>\nBe brief.<|end|>\n<|user|>\n")


# The mask


def spans(ids: list[int], learn: list[bool]) -> list[list[int]]:
    """The learned stretches, each up to and with its end."""
    found: list[list[int]] = []
    for index, (token, flag) in enumerate(zip(ids, learn, strict=True)):
        if flag and not (index and learn[index - 1]):
            found.append([])
        if flag:
            found[-1].append(token)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 5])
def test_answers_and_their_ends_are_learned_and_nothing_else(kind: str, tokens: int) -> None:
    chat, tokenizer = built(kind)
    turns = [ASK, YES, AGAIN, NO]
    ids, learn = encode(tokenizer, chat, turns, image_tokens=tokens, image_id=image_id(tokenizer))
    first, second = spans(ids, learn)
    assert first[-1] == second[-1] == tokenizer.token_to_id(chat.end)
    assert tokenizer.decode(first[:-1]).strip() == YES.text
    assert tokenizer.decode(second[:-1]).strip() == NO.text
    assert learn[-1] and ids.count(image_id(tokenizer)) == tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 5])
def test_prompts_are_beginnings_of_what_was_trained(kind: str, tokens: int) -> None:
    chat, tokenizer = built(kind)
    whole, learn = encode(tokenizer, chat, [ASK, YES, AGAIN, NO], image_tokens=tokens, image_id=image_id(tokenizer))
    for turns in ([ASK], [ASK, YES, AGAIN]):
        prompt, none = encode(tokenizer, chat, turns, image_tokens=tokens, image_id=image_id(tokenizer))
        assert whole[: len(prompt)] == prompt and learn[len(prompt)] and not learn[len(prompt) - 1]
        assert sum(none) == (0 if turns == [ASK] else len(spans(whole, learn)[0]))


def preprocess_v1(tokenizer: Tokenizer, conversation: str, end: str, *, begins: bool) -> list[bool]:
    """Which tokens LLaVA's preprocess_v1 learns, by its counting (llava/train/train.py; docs/CUSTOM.md of MoE-LLaVA for
    tokenizers without a first token: one is added for the end, one taken off for the blank after "ASSISTANT:").
    """

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids) + begins

    total = count(conversation)
    learned = [True] * total
    at = 1 if begins else 0
    learned[:at] = [False] * at
    for part in conversation.split(end):
        if not part:
            break
        before = part.split(" ASSISTANT: ")[0] + " ASSISTANT: "
        length = count(part) + (not begins)
        instruction = count(before) - (2 if begins else 1)
        learned[at : at + instruction] = [False] * instruction
        at += length
    assert at == total, "the published code would mask this conversation whole"
    return learned


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("phi3", "chatml")])
def test_the_mask_is_the_published_one_where_that_counts_right(kind: str) -> None:
    chat, tokenizer = built(kind)
    turns = [ASK, YES, AGAIN, NO]
    _, learn = encode(tokenizer, chat, turns, image_tokens=0)
    text = written(chat, turns, image=False).removeprefix("<s>")
    assert learn == preprocess_v1(tokenizer, text, chat.end, begins=chat.begin == "<s>")


# Without SentencePiece's own sign for a blank, which it cannot tell from one.
ANSWER = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="▁"), min_size=1, max_size=24
).filter(lambda text: text.strip() and not any(token in text for chat in FORMATS.values() for token in chat.control))


@pytest.mark.parametrize("kind", KINDS)
@given(question=ANSWER, answer=ANSWER)
@settings(max_examples=60, deadline=None)
def test_any_text_is_split_at_its_border(kind: str, question: str, answer: str) -> None:
    """Emoji, combining marks, blanks and line breaks at either end: characters of several bytes are several tokens."""
    chat, tokenizer = built(kind)
    turns = [Turn("user", question), Turn("assistant", answer)]
    whole, learn = encode(tokenizer, chat, turns, image_tokens=3, image_id=image_id(tokenizer))
    prompt, _ = encode(tokenizer, chat, turns[:1], image_tokens=3, image_id=image_id(tokenizer))
    assert whole[: len(prompt)] == prompt
    assert learn == [False] * len(prompt) + [True] * (len(whole) - len(prompt))
    said = answer if tokenizer.normalizer is None or "NFC" not in str(tokenizer.normalizer) else nfc(answer)
    assert tokenizer.decode(whole[len(prompt) : -1]).strip() == said.strip()


def nfc(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("kind", KINDS)
def test_characters_of_an_answer_are_found_in_it(kind: str) -> None:
    """Every byte of a character that takes several tokens lies inside its answer; together they cover it."""
    chat, tokenizer = built(kind)
    answer = "A 🙂 née 漢字."
    pieces = render(chat, [ASK, Turn("assistant", answer)], image=False)
    begin = len(pieces[0][0]) + len(chat.lead)
    inside = [
        (start - begin, stop - begin) for _, start, stop, piece in tokenize(tokenizer, chat, pieces) if piece == 1
    ]
    covered = {place for start, stop in inside[:-1] for place in range(max(0, start), stop)}
    assert covered >= {place for place, character in enumerate(answer) if character != " "}
    assert max(covered) < len(answer)
    assert inside[-1] == (len(answer), len(answer) + len(chat.end))


# The picture, where the tokenizer has no token for it


@pytest.mark.parametrize("kind", ["vicuna, original layout", "phi-2", "qwen", "stablelm"])
def test_text_around_the_picture_is_tokenized_by_itself(kind: str) -> None:
    """LLaVA's tokenizer_image_token: the chunks around "<image>", each tokenized alone, with the image's id between them."""
    chat, tokenizer = built(kind)
    ids, _ = encode(tokenizer, chat, [ASK], image_tokens=4, image_id=777)
    first = chat.begin + SENTENCE + " USER: "
    second = "\nIs there a ring? ASSISTANT:"
    chunks = [tokenizer.encode(text, add_special_tokens=False).ids for text in (first, second)]
    assert ids == [*chunks[0], 777, 777, 777, 777, *chunks[1]]


def test_both_layouts_of_llava_give_the_same_ids() -> None:
    """The original tokenizer with the config's id, and Hugging Face's, which has <image> as its next token."""
    _, original = built("vicuna, original layout")
    _, converted = built("vicuna, Hugging Face layout")
    token = converted.token_to_id("<image>")
    turns = [ASK, YES, AGAIN, NO]
    expected = encode(converted, VICUNA_V1, turns, image_tokens=6)
    assert encode(original, VICUNA_V1, turns, image_tokens=6, image_id=token) == expected
    assert encode(converted, VICUNA_V1, turns, image_tokens=6, image_id=token) == expected


def test_an_image_token_that_is_not_the_models_is_refused() -> None:
    _, tokenizer = built("vicuna, Hugging Face layout")
    with pytest.raises(DataError, match=r"'<image>' is token \d+, the model's config says 3"):
        encode(tokenizer, VICUNA_V1, [ASK], image_tokens=6, image_id=3)


@pytest.mark.parametrize("kind", ["vicuna, original layout", "stablelm"])
def test_a_picture_without_any_id_is_refused(kind: str) -> None:
    chat, tokenizer = built(kind)
    with pytest.raises(DataError, match="does not know the image token"):
        encode(tokenizer, chat, [ASK], image_tokens=6)


def test_a_tokenizer_without_the_end_token_is_refused() -> None:
    """The end would be learned as a handful of ordinary pieces, and no answer would ever stop."""
    with pytest.raises(DataError, match=r"does not know '<\|endoftext\|>', which ends an answer"):
        encode(sentencepiece(), PHI, [ASK, YES], image_tokens=0)
    with pytest.raises(DataError, match="does not know '</s>', which ends an answer"):
        encode(gpt2("<|endoftext|>", trim=False), VICUNA_V1, [ASK, YES], image_tokens=0)
