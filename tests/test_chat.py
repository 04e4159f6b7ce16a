"""Chat formats: what is written, what is learned, and that both agree with the template that leaves with the model."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from edgereverie.backbones.starter import build_tokenizer
from edgereverie.chat import FORMATS, PHI3, ChatFormat, chat_format, encode, render, stop_ids
from edgereverie.errors import DataError, EdgeReverieError
from edgereverie.records import Turn

ASK, YES = Turn("user", "Is there a ring?"), Turn("assistant", "Yes, a red ring.")
AGAIN, NO = Turn("user", "And a heart?"), Turn("assistant", "No.")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(
        ["Is there a ring? Yes, a red ring.", "And a heart? No, there is a blue star at the top."] * 20
    )


def learned_text(tokenizer: Tokenizer, ids: list[int], learn: list[bool]) -> list[str]:
    """The learned stretches, decoded one by one."""
    stretches: list[list[int]] = []
    before = False
    for token, flag in zip(ids, learn, strict=True):
        if flag and not before:
            stretches.append([])
        if flag:
            stretches[-1].append(token)
        before = flag
    return [tokenizer.decode(stretch, skip_special_tokens=False).strip() for stretch in stretches]


def test_a_conversation_is_written_as_phi3_writes_it() -> None:
    """The text of Phi-3-mini's model card: <|user|> ... <|end|> <|assistant|> ... with a line break after each."""
    text = "".join(piece for piece, _ in render(PHI3, [ASK, YES, AGAIN], image=False))
    assert text == (
        "<s><|user|>\nIs there a ring?<|end|>\n<|assistant|>\nYes, a red ring.<|end|>\n"
        "<|user|>\nAnd a heart?<|end|>\n<|assistant|>\n"
    )


def test_the_picture_stands_before_the_first_user_text_only() -> None:
    text = "".join(piece for piece, _ in render(PHI3, [Turn("system", "Be brief."), ASK, YES, AGAIN, NO], image=True))
    assert text.startswith("<s><|system|>\nBe brief.<|end|>\n<|user|>\n<image>\nIs there a ring?")
    assert text.count("<image>") == 1


@pytest.mark.parametrize("chat", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("turns", [[ASK], [ASK, YES, AGAIN], [Turn("system", "Be brief."), ASK]])
@pytest.mark.parametrize("image", [False, True])
def test_the_jinja_template_writes_the_same(chat: ChatFormat, turns: list[Turn], image: bool) -> None:
    """The template goes into exported models; rendered by jinja2 it must equal what training wrote."""
    messages = []
    pictured = image
    for turn in turns:
        content: object = turn.text
        if pictured and turn.role == "user":
            content, pictured = [{"type": "image"}, {"type": "text", "text": turn.text}], False
        messages.append({"role": turn.role, "content": content})
    written = (
        jinja2.Environment()
        .from_string(chat.jinja)
        .render(messages=messages, bos_token="<s>", add_generation_prompt=True)
    )
    assert written == "".join(piece for piece, _ in render(chat, turns, image=image))


def test_every_answer_and_its_end_token_are_learned_and_nothing_else(tokenizer: Tokenizer) -> None:
    ids, learn = encode(tokenizer, PHI3, [ASK, YES, AGAIN, NO], image_tokens=0)
    assert learned_text(tokenizer, ids, learn) == ["Yes, a red ring.<|end|>", "No.<|end|>"]
    assert learn[-1] and not learn[0]


def test_the_picture_takes_its_tokens_and_none_is_learned(tokenizer: Tokenizer) -> None:
    ids, learn = encode(tokenizer, PHI3, [ASK, YES], image_tokens=36)
    without, _ = encode(tokenizer, PHI3, [ASK, YES], image_tokens=0)
    image = tokenizer.token_to_id("<image>")
    places = [i for i, token in enumerate(ids) if token == image]
    assert len(places) == 36 and places[-1] - places[0] == 35
    assert not any(learn[i] for i in places)
    assert image not in without
    assert learned_text(tokenizer, ids, learn) == ["Yes, a red ring.<|end|>"]


def test_a_prompt_is_the_beginning_of_what_was_trained(tokenizer: Tokenizer) -> None:
    """Otherwise the model would continue ids that it never saw."""
    whole, learn = encode(tokenizer, PHI3, [ASK, YES], image_tokens=4)
    prompt, none = encode(tokenizer, PHI3, [ASK], image_tokens=4)
    assert whole[: len(prompt)] == prompt
    assert not any(none)
    assert learn.index(True) == len(prompt)


def test_generation_stops_at_the_token_that_ends_a_learned_answer(tokenizer: Tokenizer) -> None:
    ids, _ = encode(tokenizer, PHI3, [ASK, YES], image_tokens=0)
    assert ids[-1] in stop_ids(tokenizer, PHI3)
    assert stop_ids(tokenizer, PHI3) == {tokenizer.token_to_id("<|end|>"), tokenizer.token_to_id("<|endoftext|>")}


# Without SentencePiece's own sign for a blank, which it cannot tell from one.
ANSWER = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="▁"), min_size=1, max_size=30
).filter(lambda text: text.strip() and not any(token in text for token in PHI3.control))


@given(question=ANSWER, answer=ANSWER)
@settings(max_examples=80, deadline=None)
def test_any_text_is_split_at_its_border(tokenizer: Tokenizer, question: str, answer: str) -> None:
    """Emoji, right-to-left text, blanks at either end: the prompt's ids stay a prefix and the answer's are learned."""
    whole, learn = encode(tokenizer, PHI3, [Turn("user", question), Turn("assistant", answer)], image_tokens=0)
    prompt, _ = encode(tokenizer, PHI3, [Turn("user", question)], image_tokens=0)
    assert whole[: len(prompt)] == prompt
    assert learn == [False] * len(prompt) + [True] * (len(whole) - len(prompt))
    # Blanks right after a control token belong to it (rstrip): the answer's own lead is lost, by Phi-3's definition.
    assert tokenizer.decode(whole[len(prompt) : -1]).strip() == answer.strip()


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "no turns"),
        ([YES], "Turn 1"),
        ([ASK, ASK], "Turn 2"),
        ([ASK, YES, NO], "Turn 3"),
        ([ASK, Turn("system", "x")], "Turn 2"),
        ([Turn("user", "  \n")], r"Turn 1 \(user\) is empty"),
        ([ASK, Turn("assistant", "")], r"Turn 2 \(assistant\) is empty"),
        ([Turn("user", "Hello<|end|>")], "control token '<|end|>'".replace("|", r"\|")),
        ([Turn("user", "look: <image>")], "control token '<image>'"),
    ],
)
def test_a_conversation_that_cannot_be_written_is_refused(turns: list[Turn], message: str) -> None:
    with pytest.raises(DataError, match=message):
        render(PHI3, turns, image=False)


def test_a_tokenizer_that_does_not_fit_is_refused() -> None:
    """One whose merges reach over an answer's border, and one that does not know the image token."""
    pieces = ["<unk>", "a", ">", "\n", ">\na", "\na"]
    foreign = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)}, merges=[("\n", "a"), (">", "\na")], unk_token="<unk>"
        )
    )
    with pytest.raises(DataError, match="straddles the border of an answer"):
        encode(foreign, PHI3, [Turn("user", "a"), Turn("assistant", "a")], image_tokens=0)
    foreign.add_special_tokens([AddedToken(token, special=True) for token in PHI3.control if token != "<image>"])
    with pytest.raises(DataError, match="does not know the image token"):
        encode(foreign, PHI3, [Turn("user", "a")], image_tokens=4)


def test_formats_are_known_by_name() -> None:
    assert chat_format("phi3") is PHI3
    assert all(chat.name == name for name, chat in FORMATS.items())
    with pytest.raises(EdgeReverieError, match="Unknown chat format 'vicuna'") as caught:
        chat_format("vicuna")
    assert "Did you mean 'vicuna_v1'?" in (caught.value.hint or "")
