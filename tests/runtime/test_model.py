"""Generation and scoring over an engine whose logits are set by hand, so that every expected value is arithmetic."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgereverie.backbones.starter import IMAGE, build_tokenizer
from edgereverie.chat import PHI, PHI3, encode
from edgereverie.errors import BackendError, DataError
from edgereverie.records import Options, Turn
from edgereverie.runtime.detokenise import Detokenizer, StopWords
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Piece
from edgereverie.runtime.sampling import choose
from edgereverie.runtime.session import Session

ASK = [Turn("user", "Is there a ring?")]


@pytest.fixture(scope="module")
def tokenizer():
    corpus = ["Yes, there is a ring. No, there is no ring in the image. A red star and a moon. Is there a star?"] * 5
    return build_tokenizer(corpus)


@pytest.fixture
def scripted(tokenizer, request: pytest.FixtureRequest) -> Callable[..., Model]:
    """A model that says ``text`` to everything; or one with the given rule."""
    spec = importlib.util.spec_from_file_location("runtime_conftest", Path(__file__).parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image_token, end = tokenizer.token_to_id("<image>"), tokenizer.token_to_id("<|end|>")
    begin = tokenizer.token_to_id("<|assistant|>")
    size = tokenizer.get_vocab_size() + 5  # padding rows, as real checkpoints have

    def make(text: str = "", rule: Callable[[tuple[int, ...]], np.ndarray] | None = None, context: int = 512) -> Model:
        says = [*tokenizer.encode(text, add_special_tokens=False).ids, end]

        def speak(fed: tuple[int, ...]) -> np.ndarray:
            said = len(fed) - 1 - (len(fed) - 1 - fed[::-1].index(begin)) if begin in fed else 0
            logits = np.zeros(size)
            logits[says[min(said, len(says) - 1)]] = 9.0
            logits[image_token] = logits[-1] = 20.0  # likelier than anything, and never to be said
            return logits

        engine = module.ScriptedEngine(size, image_token, IMAGE.tokens, rule or speak, context)
        return Model(engine, tokenizer, PHI3, IMAGE, "scripted")

    return make


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "A ring.",
        "naïve café",
        "日本語のテキスト",
        "🙂🙃 two faces",
        "a👩‍👩‍👧b",
        " two  blanks ",
        "x\ny\n",
        "€€€",
        "1 2 3",
    ],
)
def test_characters_arrive_whole(scripted: Callable[..., Model], text: str, picture: Path) -> None:
    model = scripted(text)
    pieces = list(model.respond(picture, ASK, Options(max_tokens=100)))
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert len(pieces) > 1


def test_an_answer_that_is_cut_inside_a_character_shows_it_as_broken(scripted: Callable[..., Model]) -> None:
    pieces = list(scripted("a€").respond(None, ASK, Options(max_tokens=2)))
    assert "".join(pieces).startswith("a")
    assert set("".join(pieces)[1:]) <= {"\N{REPLACEMENT CHARACTER}"}


def test_bad_bytes_after_a_whole_character_do_not_take_it_back(tokenizer) -> None:
    """The decoder spoils a whole run of byte tokens for one bad byte in it; what was shown stays shown."""
    byte = {value: tokenizer.token_to_id(f"<0x{value:02X}>") for value in (0xE2, 0x82, 0xAC)}
    reader = Detokenizer(tokenizer)
    shown = [reader.add(byte[value]) for value in (0xE2, 0x82, 0xAC, 0xE2)]
    assert shown == ["", "", "€", ""]
    assert set(reader.finish()) == {"\N{REPLACEMENT CHARACTER}"}


def test_broken_bytes_do_not_wait_for_ever(tokenizer) -> None:
    reader = Detokenizer(tokenizer)
    bad = tokenizer.token_to_id("<0xFF>")
    assert "".join(reader.add(bad) for _ in range(8)) != ""


@pytest.mark.parametrize(
    ("pieces", "words", "shown", "found"),
    [
        (["one ", "two ST", "OP three"], ["STOP"], "one two ", True),
        (["one ", "two ST", "AY"], ["STOP"], "one two STAY", False),
        (["ab", "ab", "c"], ["abc"], "ab", True),
        (["abcd"], ["cd", "b"], "a", True),
        (["text"], [], "text", False),
        (["\n", "\nUser:"], ["\n\n"], "", True),
    ],
)
def test_stop_words(pieces: Sequence[str], words: Sequence[str], shown: str, found: bool) -> None:
    stop = StopWords(words)
    out = ""
    for piece in pieces:
        out += stop.add(piece)
        if stop.found:
            break
    assert (out + stop.finish(), stop.found) == (shown, found)


def test_stop_words_end_the_answer(scripted: Callable[..., Model]) -> None:
    answer = scripted("A red star and a moon.").answer(None, ASK, Options(stop=("and",)))
    assert answer.text == "A red star "


def test_greedy_never_says_padding_or_the_image_token(scripted: Callable[..., Model]) -> None:
    answer = scripted("Yes.").answer(None, ASK, Options())
    assert answer.text == "Yes."


def test_max_tokens_counts_tokens(scripted: Callable[..., Model]) -> None:
    answer = scripted("A red star and a moon.").answer(None, ASK, Options(max_tokens=3))
    assert answer.tokens == 3


def test_confidence_is_the_geometric_mean_of_token_probabilities(scripted: Callable[..., Model], tokenizer) -> None:
    yes = tokenizer.encode("Yes", add_special_tokens=False).ids
    size, end = tokenizer.get_vocab_size() + 5, tokenizer.token_to_id("<|end|>")
    assert len(yes) == 1

    def rule(fed: tuple[int, ...]) -> np.ndarray:
        logits = np.full(size, -np.inf)
        logits[yes[0]], logits[end] = (math.log(0.75), math.log(0.25)) if fed[-1] != yes[0] else (-50.0, 0.0)
        return logits

    answer = scripted(rule=rule).answer(None, ASK, Options())
    assert answer.text == "Yes"
    assert answer.confidence == pytest.approx(0.75, abs=1e-6)
    assert scripted(rule=rule).score(None, ASK, "Yes") == pytest.approx(math.log(0.75), abs=1e-6)


def test_sampling_repeats_with_its_seed_and_follows_the_probabilities(
    scripted: Callable[..., Model], tokenizer
) -> None:
    size = tokenizer.get_vocab_size() + 5
    yes, no = (tokenizer.encode(word, add_special_tokens=False).ids[0] for word in ("Yes", "No"))

    def rule(fed: tuple[int, ...]) -> np.ndarray:
        logits = np.full(size, -np.inf)
        logits[yes], logits[no] = math.log(0.8), math.log(0.2)
        return logits

    model = scripted(rule=rule)

    def draw(seed: int, temperature: float) -> str:
        return "".join(model.respond(None, ASK, Options(max_tokens=1, temperature=temperature, seed=seed)))

    first = [draw(seed, 1.0) for seed in range(400)]
    assert first == [draw(seed, 1.0) for seed in range(400)]
    # 400 draws of 0.8: mean 320, standard deviation 8; five of them either side.
    assert 280 < first.count("Yes") < 360
    # At temperature 0.5 the odds are squared: 16 to 1, mean 376, standard deviation 4.7.
    assert first.count("Yes") < [draw(seed, 0.5) for seed in range(400)].count("Yes") < 400


def test_choose_takes_the_lowest_id_among_equals() -> None:
    logits, free = np.array([0.0, 1.0, 1.0]), np.array([True, True, True])
    token, (log_prob, margin, entropy, rank) = choose(logits, free, Options(), [], np.random.default_rng(0))
    assert (token, margin, rank) == (1, 0.0, 0)
    total = 1 + 2 * math.e
    assert log_prob == pytest.approx(1 - math.log(total))
    assert entropy == pytest.approx(math.log(total) - 2 * math.e / total)


def test_nan_is_an_error(scripted: Callable[..., Model]) -> None:
    model = scripted(rule=lambda fed: np.full(model_size, np.nan))
    model_size = model.engine.vocabulary
    with pytest.raises(BackendError, match="not numbers"):
        model.answer(None, ASK, Options())
    with pytest.raises(BackendError, match="not numbers"):
        model.score(None, ASK, "Yes.")


def test_six_questions_encode_the_picture_once(scripted: Callable[..., Model], picture: Path) -> None:
    model = scripted("Yes.")
    model.answer_many(
        picture, [f"Is there a {name}?" for name in ("ring", "star", "moon", "drop", "cross", "heart")], Options()
    )
    assert model.engine.encoded == 1
    # Prefilling the picture once leaves a question some 25 tokens; with the picture each would take over 40 more.
    assert model.engine.fed < 6 * 36


def test_a_picture_that_changed_is_looked_at_again(scripted: Callable[..., Model], picture: Path) -> None:
    model = scripted("Yes.")
    model.look(picture)
    model.look(Image.open(picture))
    assert model.engine.encoded == 2  # the file's bytes and the pixels are two names of it
    model.look(picture)
    assert model.engine.encoded == 2
    Image.new("RGB", (40, 30), "blue").save(picture)
    model.answer(picture, ASK, Options())
    assert model.engine.encoded == 3


def test_a_missing_picture_is_named(scripted: Callable[..., Model], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.png: no such image"):
        scripted("Yes.").answer(tmp_path / "nowhere.png", ASK, Options())


def test_context_overflow_is_refused_before_generating(scripted: Callable[..., Model]) -> None:
    model = scripted("Yes.", context=40)
    with pytest.raises(BackendError, match="the answer may take 100") as caught:
        model.respond(None, ASK, Options(max_tokens=100))
    assert caught.value.hint
    assert model.engine.fed == 0


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([], "conversation is empty"),
        ([Turn("user", " \n")], "question is empty"),
        ([Turn("user", "Is there a ring?"), Turn("assistant", "Yes.")], "ends with the assistant's turn"),
        ([Turn("system", "Be brief.")], "ends with the system's turn"),
    ],
)
def test_a_conversation_that_asks_nothing_is_refused(
    scripted: Callable[..., Model], turns: list[Turn], words: str
) -> None:
    model = scripted("Yes.")
    with pytest.raises(BackendError, match=words) as caught:
        model.events(None, turns, Options())
    assert caught.value.hint and model.engine.fed == 0


def test_several_pictures_are_refused(scripted: Callable[..., Model], picture: Path) -> None:
    with pytest.raises(BackendError, match="2 pictures were given; a model looks at one"):
        scripted("Yes.").events([picture, picture], ASK, Options())


def test_a_huge_picture_is_refused_from_memory_as_from_a_file(scripted: Callable[..., Model]) -> None:
    huge = Image.new("1", (9000, 8000))
    with pytest.raises(DataError, match=r"9000 x 8000 pixels; at most 64,000,000"):
        scripted("Yes.").answer(huge, ASK, Options())


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_tokens": 0}])
def test_options_that_mean_nothing_are_refused_before_generating(scripted: Callable[..., Model], wrong: dict) -> None:
    model = scripted("Yes.")
    with pytest.raises(BackendError, match=next(iter(wrong))):
        model.events(None, ASK, Options(**wrong))
    assert model.engine.fed == 0


def test_an_unloadable_path_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="neither a bundle"):
        Model.load(tmp_path)


def test_a_backend_that_runs_something_else_is_refused(small_bundle) -> None:
    with pytest.raises(BackendError, match="'onnxrt' runs onnx, this is 'gguf'") as caught:
        Model.load(small_bundle.folder, backend="onnxrt")
    assert "llamacpp" in caught.value.hint


def test_a_session_keeps_the_conversation(scripted: Callable[..., Model], picture: Path) -> None:
    session = Session(scripted("Yes, a ring."), options=Options(max_tokens=20))
    session.see(picture)
    shown = "".join(event.text for event in session.ask("Is there a ring?") if isinstance(event, Piece))
    assert shown == session.answer.text == "Yes, a ring."
    list(session.ask("Is there a star?"))
    assert [turn.role for turn in session.turns] == ["user", "assistant", "user", "assistant"]
    assert session.model.engine.encoded == 1
    stopped = session.ask("And now?")
    next(stopped)
    stopped.close()
    assert session.answer is None
    assert len(session.turns) == 4
    session.clear()
    assert session.turns == ()
    assert session.image == picture


@pytest.fixture(scope="module")
def byte_level():
    """A byte-level tokenizer, whose words hold the blank before them and whose text keeps it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.post_processor = processors.ByteLevel(trim_offsets=True)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = ["USER: Is there a ring? ASSISTANT: Yes, there is a red ring."] * 5
    learned.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    learned.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return learned


def _says(tokenizer, text: str, picture: bool) -> Model:
    """A model of chat format phi that says the tokens of ``text`` after "ASSISTANT:"; its image token is no tokenizer's."""
    spec = importlib.util.spec_from_file_location("runtime_conftest", Path(__file__).parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    foreign = tokenizer.get_vocab_size() + 1
    tokens = IMAGE.tokens if picture else 0
    prompt, _ = encode(tokenizer, PHI, ASK, image_tokens=tokens, image_id=foreign)
    says = [*tokenizer.encode(text, add_special_tokens=False).ids, tokenizer.token_to_id("<|endoftext|>")]

    def speak(fed: tuple[int, ...]) -> np.ndarray:
        logits = np.zeros(foreign + 3)
        logits[says[min(max(0, len(fed) - len(prompt)), len(says) - 1)]] = 9.0
        return logits

    return Model(module.ScriptedEngine(foreign + 3, foreign, IMAGE.tokens, speak), tokenizer, PHI, IMAGE, "scripted")


@pytest.mark.parametrize("answer", ["Yes, a red ring.", "🙂 née", "  two blanks", "\nx", "No"])
def test_the_blank_before_an_answer_is_not_its_text(byte_level, answer: str, picture: Path) -> None:
    """vicuna_v1 and its kin put a blank between "ASSISTANT:" and the answer; a conversation would double it every turn."""
    model = _says(byte_level, " " + answer, picture=True)
    assert "".join(model.respond(picture, ASK, Options(max_tokens=60))) == answer
    session = Session(model, options=Options(max_tokens=60))
    session.see(picture)
    list(session.ask(ASK[0].text))
    assert session.turns[-1] == Turn("assistant", answer)


@pytest.mark.parametrize("answer", ["Yes, a red ring.", "🙂 née.", "two  blanks ", " leading"])
def test_scored_tokens_are_the_trained_ones_and_cover_the_text(byte_level, answer: str) -> None:
    model = _says(byte_level, " " + answer, picture=False)
    scored = model.score_tokens(None, ASK, answer)
    _, learn = encode(byte_level, PHI, [*ASK, Turn("assistant", answer)], image_tokens=0)
    assert len(scored.log_probs) == len(scored.spans) == sum(learn) - 1
    # The scripted model is sure of exactly these tokens: any other id or place would cost 9 nats.
    size = model.engine.vocabulary
    assert scored.log_probs == pytest.approx(np.full(sum(learn) - 1, 9 - math.log(math.exp(9) + size - 1)), abs=1e-5)
    covered = {place for start, stop in scored.spans for place in range(start, stop)}
    assert covered >= {place for place, character in enumerate(answer) if character != " "}
    assert all(0 <= start <= stop <= len(answer) for start, stop in scored.spans)
