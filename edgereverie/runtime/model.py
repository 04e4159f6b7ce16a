"""A loaded model that answers questions about pictures: generation, scoring and the cache of what it looked at.

Written once against ``runtime.engine``, so every backend generates, scores and guards alike.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from edgereverie.bundle import MANIFEST, Bundle
from edgereverie.chat import ChatFormat, chat_format, encode, render, stop_ids, tokenize
from edgereverie.errors import BackendError, BundleError
from edgereverie.image import open_image, prepare
from edgereverie.records import Answer, ImageSpec, Options, Turn
from edgereverie.registry import BACKENDS, GUARDS
from edgereverie.runtime.detokenise import Detokenizer, StopWords
from edgereverie.runtime.engine import Backend, CacheFull, Engine, Stream
from edgereverie.runtime.sampling import choose, log_softmax, log_sum_exp

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from edgereverie.runtime.guards.base import Guard

Picture = Path | Image.Image | None
T = TypeVar("T")
_log = logging.getLogger(__name__)
_PICTURES_KEPT = 4
_PRIORS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Scored:
    """A text under teacher forcing. log_probs: nats per token. spans: where each token's characters stand in the text."""

    log_probs: np.ndarray
    spans: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Model:
    """One model, loaded. Not for several threads at once.

    name: what reports call it. image: the picture's geometry. Pictures are known by their content, so the same file asked
    six questions is encoded and prefilled once, and a file that changed on disk is looked at again.
    """

    engine: Engine
    tokenizer: Tokenizer
    chat: ChatFormat
    image: ImageSpec
    name: str
    bundle: Bundle | None = None
    folder: Path | None = None  # a model folder, where no bundle was loaded
    _features: OrderedDict[str, np.ndarray] = field(default_factory=OrderedDict, repr=False)
    _prefixes: OrderedDict[tuple[str, tuple[int, ...]], Stream] = field(default_factory=OrderedDict, repr=False)
    _priors: OrderedDict[tuple[int, ...], float] = field(default_factory=OrderedDict, repr=False)
    _allowed: np.ndarray = field(init=False, repr=False)
    _yes: np.ndarray = field(init=False, repr=False)
    _no: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        known = self.tokenizer.get_vocab_size(with_added_tokens=True)
        if self.engine.vocabulary < known:
            raise BackendError(
                f"{self.name}: the tokenizer has {known:,} tokens, the model computes logits for "
                f"{self.engine.vocabulary:,}.",
                hint="tokenizer.json and the weights must come from the same model.",
            )
        # Padding rows stand for no token, and a generated image token would have no features.
        self._allowed = np.arange(self.engine.vocabulary) < known
        self._allowed[self.engine.image_token] = False
        self._yes, self._no = _spellings(self.tokenizer, "yes"), _spellings(self.tokenizer, "no")

    @classmethod
    def load(cls, path: Path, backend: str = "auto", precise: bool = False) -> Model:
        """A bundle (by its target) or a model folder (in PyTorch).

        backend: a name, or ``auto`` for the one that runs what is there. precise: 32-bit caches and sums, for comparisons.
        Raises BundleError, BackboneError or BackendError with what is wrong, MissingPackage with what to install.
        """
        path = Path(path)
        if (path / MANIFEST).is_file():
            bundle = Bundle.load(path)
            _warn_of_failed_parity(bundle)
            engine = _backend(backend, bundle.target, path).load(path, precise=precise)
            return cls(
                engine,
                _tokenizer(bundle.file("tokenizer")),
                chat_format(bundle.chat),
                bundle.image,
                bundle.name,
                bundle,
            )
        if (path / "config.json").is_file():
            from edgereverie.backbones.base import open_folder

            folder = open_folder(path)
            engine = _backend(backend, "torch", path).load(path, precise=precise)
            return cls(engine, folder.tokenizer(), folder.chat, folder.image, path.resolve().name, folder=path)
        raise BackendError(
            f"{path}: neither a bundle ({MANIFEST}) nor a model folder (config.json).",
            hint="Name an exported bundle, a merged model folder, or 'starter'.",
        )

    def close(self) -> None:
        """Give back caches and weights. The model is not used again."""
        self._drop_prefixes(keep=None)
        self._features.clear()
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Looking

    def look(self, image: Picture, system: str | None = None) -> None:
        """Encode the picture and prefill it now, so that the first question need not wait for it."""
        turns = ([Turn("system", system)] if system else []) + [Turn("user", "?")]
        ids, cut = self._prompt(image, turns)
        if image is not None:
            self._prefix(image, tuple(ids[:cut]))

    def _prompt(self, image: Picture, turns: Sequence[Turn]) -> tuple[list[int], int]:
        """Token ids, and how many of them belong to the beginning that all questions about the picture share."""
        tokens = 0 if image is None else self.image.tokens
        ids, _ = encode(self.tokenizer, self.chat, turns, image_tokens=tokens, image_id=self.engine.image_token)
        if image is None:
            return ids, 0
        return ids, len(ids) - ids[::-1].index(self.engine.image_token)

    def _prefix(self, image: Path | Image.Image, ids: tuple[int, ...]) -> Stream:
        digest = _digest(image)
        key = (digest, ids)
        if key in self._prefixes:
            self._prefixes.move_to_end(key)
            return self._prefixes[key]
        features = self._encoded(image, digest)
        stream = self._make_room(self.engine.open)
        try:
            self._make_room(lambda: stream.feed(ids, features))
        except BaseException:
            stream.close()
            raise
        self._prefixes[key] = stream
        while len(self._prefixes) > _PICTURES_KEPT:
            self._prefixes.popitem(last=False)[1].close()
        return stream

    def _encoded(self, image: Path | Image.Image, digest: str) -> np.ndarray:
        if digest not in self._features:
            picture = open_image(image) if isinstance(image, Path) else image.convert("RGB")
            features = self.engine.encode(prepare(picture, self.image))
            if len(features) != self.image.tokens:
                raise BundleError(
                    f"{self.name}: the vision tower gave {len(features)} rows, the image geometry says "
                    f"{self.image.tokens}.",
                    hint="Export vision tower and language model from the same merged folder.",
                )
            if not np.isfinite(features).all():
                raise BackendError(
                    f"{self.name}: the vision tower computed features that are not finite.",
                    hint="Its weights are damaged, or overflow in half precision: export in fp32.",
                )
            self._features[digest] = features
            while len(self._features) > _PICTURES_KEPT:
                self._features.popitem(last=False)
        self._features.move_to_end(digest)
        return self._features[digest]

    def _make_room(self, action: Callable[[], T], keep: Stream | None = None) -> T:
        """Do it; when the engine's cache is full, forget the pictures that are not in use and try once more."""
        try:
            return action()
        except CacheFull:
            if not self._drop_prefixes(keep):
                raise
            return action()

    def _drop_prefixes(self, keep: Stream | None) -> int:
        idle = [key for key, stream in self._prefixes.items() if stream is not keep]
        for key in idle:
            self._prefixes.pop(key).close()
        return len(idle)

    def _run(self, image: Picture, ids: Sequence[int], cut: int, *, every: bool) -> tuple[Stream, np.ndarray]:
        """A stream that holds ``ids``, and the logits after the last or after each of ids[cut:]. The caller closes it."""
        if len(ids) > self.engine.context:
            raise BackendError(
                f"The conversation has {len(ids):,} tokens, the model's context holds {self.engine.context:,}.",
                hint="Shorten the conversation, or start a new one.",
            )
        prefix = None if image is None else self._prefix(image, tuple(ids[:cut]))
        stream = self._make_room(self.engine.open if prefix is None else prefix.fork, prefix)
        try:
            return stream, self._make_room(lambda: stream.feed(ids[cut:], logits="all" if every else "last"), prefix)
        except BaseException:
            stream.close()
            raise

    # Answering

    def respond(self, image: Picture, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        """The answer, piece by piece, in whole characters. Raises at once when prompt and answer may not fit the context."""
        return self.stream(image, turns, options, [])

    def stream(self, image: Picture, turns: Sequence[Turn], options: Options, record: list[float]) -> Iterator[str]:
        """``respond``, with the log-probability of each token appended to ``record`` (nats)."""
        ids, cut = self._prompt(image, turns)
        if len(ids) + options.max_tokens > self.engine.context:
            raise BackendError(
                f"The conversation has {len(ids):,} tokens and the answer may take "
                f"{options.max_tokens:,}; the model's context holds {self.engine.context:,}.",
                hint="Ask for fewer tokens, or start a new conversation.",
            )
        return self._steps(image, ids, cut, options, record)

    def _steps(self, image: Picture, ids: list[int], cut: int, options: Options, record: list[float]) -> Iterator[str]:
        """Generate token by token; ``record`` collects their log-probabilities."""
        rng = np.random.default_rng(options.seed)
        stops = stop_ids(self.tokenizer, self.chat)
        text, words = Detokenizer(self.tokenizer, self.chat.lead, self.chat.bare), StopWords(options.stop)
        stream, logits = self._run(image, ids, cut, every=False)
        try:
            for step in range(options.max_tokens):
                token, log_prob = choose(logits[-1], self._allowed, options.temperature, rng)
                if token in stops:
                    break
                record.append(log_prob)
                if piece := words.add(text.add(token)):
                    yield piece
                if words.found:
                    return
                if step + 1 < options.max_tokens:
                    fed = [token]
                    logits = self._make_room(lambda fed=fed: stream.feed(fed))
            if rest := words.add(text.finish()) + ("" if words.found else words.finish()):
                yield rest
        finally:
            stream.close()

    def answer(self, image: Picture, turns: Sequence[Turn], options: Options, guard: str | Guard = "none") -> Answer:
        """The whole answer, and with a guard what the picture says about its claims.

        confidence: without a guard, the geometric mean of the tokens' probabilities.
        """
        chosen = GUARDS.get(guard) if isinstance(guard, str) else guard
        started = time.perf_counter()
        record: list[float] = []
        text = "".join(self.stream(image, turns, options, record))
        return self.finish(image, turns, text, record, time.perf_counter() - started, chosen)

    def finish(
        self, image: Picture, turns: Sequence[Turn], text: str, record: Sequence[float], seconds: float, guard: Guard
    ) -> Answer:
        """The Answer for a generated text: figures filled in, guard applied, its time counted."""
        started = time.perf_counter()
        confidence = float(np.exp(np.mean(record))) if record else None
        plain = Answer(text, confidence=confidence, backend=self.engine.backend, tokens=len(record), seconds=seconds)
        guarded = guard.apply(self, image, turns, plain)
        return replace(guarded, seconds=seconds + time.perf_counter() - started)

    def answer_many(
        self, image: Picture, questions: Sequence[str], options: Options, guard: str | Guard = "none"
    ) -> list[Answer]:
        """One answer to each question, each in a conversation of its own; the picture is encoded and prefilled once."""
        return [self.answer(image, [Turn("user", question)], options, guard) for question in questions]

    # Scoring

    def score(self, image: Picture, turns: Sequence[Turn], continuation: str) -> float:
        """Log-probability of ``continuation`` as the next assistant turn, end-of-turn left out, in nats."""
        return float(self.score_tokens(image, turns, continuation).log_probs.sum())

    def score_tokens(self, image: Picture, turns: Sequence[Turn], continuation: str) -> Scored:
        """The same token by token, from one feed."""
        ids, cut = self._prompt(image, turns)
        tokens, spans = self._continuation(image, turns, continuation)
        stream, logits = self._run(image, ids + tokens[:-1], cut, every=True)
        stream.close()
        rows = log_softmax(logits[len(ids) - 1 - cut :])
        return Scored(rows[np.arange(len(tokens)), tokens], spans)

    def _continuation(
        self, image: Picture, turns: Sequence[Turn], text: str
    ) -> tuple[list[int], tuple[tuple[int, int], ...]]:
        """The answer's token ids as training sees them, and their characters' places in ``text``."""
        pieces = render(self.chat, [*turns, Turn("assistant", text)], image=image is not None)
        begin = sum(len(piece) for piece, _ in pieces[:-1]) + len(self.chat.answer(text)) - len(text)
        tokens = tokenize(self.tokenizer, self.chat, pieces, self.engine.image_token)
        inside = [token for token in tokens if token[3] == len(pieces) - 1][:-1]  # without the one that ends it
        # A blank prefix that the tokenizer itself puts before the first word has no width; it is the answer's all the same.
        spans = tuple((max(0, start - begin), max(0, stop - begin)) for _, start, stop, _ in inside)
        return [token for token, *_ in inside], spans

    def first_logits(self, image: Picture, turns: Sequence[Turn]) -> np.ndarray:
        """Logits of the answer's first token, (vocabulary,) float32."""
        ids, cut = self._prompt(image, turns)
        stream, logits = self._run(image, ids, cut, every=False)
        stream.close()
        return logits[-1]

    def yes_over_no(self, image: Picture, turns: Sequence[Turn]) -> float:
        """How much likelier the answer begins with yes than with no, in nats: all one-token spellings of each, summed.

        Without a picture the value depends on the words alone and is remembered.
        """
        ids, cut = self._prompt(image, turns)
        key = tuple(ids)
        if image is None and key in self._priors:
            return self._priors[key]
        stream, logits = self._run(image, ids, cut, every=False)
        stream.close()
        log_probs = log_softmax(logits[-1])
        value = log_sum_exp(log_probs[self._yes]) - log_sum_exp(log_probs[self._no])
        if image is None:
            self._priors[key] = value
            if len(self._priors) > _PRIORS_KEPT:
                self._priors.popitem(last=False)
        return value


@lru_cache(maxsize=64)
def _warned_of(fingerprint: str, name: str) -> None:
    _log.warning(
        "%s failed the comparison with the model it was made from; its answers may not be that model's "
        "(edgereverie bundle show tells how).",
        name,
    )


def _warn_of_failed_parity(bundle: Bundle) -> None:
    """Once for each such bundle and process."""
    if bundle.parity.get("passed") is False:
        _warned_of(bundle.fingerprint(), bundle.name)


def _spellings(tokenizer: Tokenizer, word: str) -> np.ndarray:
    """Ids of the tokens that are this word alone, with or without capitals and the blank before it."""
    found = [i for token, i in tokenizer.get_vocab().items() if token.strip("▁Ġ ").lower() == word]
    if not found:  # a vocabulary without the word: the first piece of it has to stand for it
        found = [tokenizer.encode(word.capitalize(), add_special_tokens=False).ids[0]]
    return np.array(sorted(found))


def _digest(image: Path | Image.Image) -> str:
    """What a picture is known by: its file's bytes or its pixels."""
    if isinstance(image, Path):
        try:
            return hashlib.sha256(image.read_bytes()).hexdigest()
        except OSError:
            open_image(image)  # says in the project's words what is wrong
            raise
    picture = image.convert("RGB")
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()


def _backend(name: str, target: str, path: Path) -> Backend:
    fitting = [known for known in BACKENDS.names() if target in BACKENDS.get(known).targets]
    if name == "auto":
        if not fitting:
            raise BackendError(f"{path}: no backend runs {target!r}.", hint="Was the bundle made by a newer version?")
        return BACKENDS.get(fitting[0])
    backend: Backend = BACKENDS.get(name)
    if target not in backend.targets:
        raise BackendError(
            f"{path}: the backend {name!r} runs {', '.join(backend.targets)}, this is {target!r}.",
            hint=f"Use backend {' or '.join(fitting)}, or 'auto'.",
        )
    return backend


def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain Exception
        raise BundleError(f"{path}: the tokenizer cannot be read ({error}).", hint="Export the bundle again.") from None
