"""A loaded model that answers questions about pictures: generation, scoring and the cache of what it looked at.

Written once against ``runtime.engine``, so every backend generates, scores and guards alike.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgereverie.bundle import MANIFEST, Bundle
from edgereverie.chat import ChatFormat, chat_format, encode
from edgereverie.errors import BackendError, BundleError
from edgereverie.records import Answer, ImageSpec, Options, Turn
from edgereverie.runtime.asking import Asking
from edgereverie.runtime.calibration.record import Calibration, fitting
from edgereverie.runtime.choosing import backend_for
from edgereverie.runtime.engine import Engine, Stream
from edgereverie.runtime.generation import require_room
from edgereverie.runtime.guarding import Guarding, chosen, guarded, looked_at
from edgereverie.runtime.request import Done, Event, Piece, Request
from edgereverie.runtime.sampling import log_softmax, log_sum_exp
from edgereverie.runtime.scoring import Scored, score_text, spellings
from edgereverie.runtime.sight import Picture, Sight
from edgereverie.runtime.together import answers_together, first_logits_many

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = logging.getLogger(__name__)
_PRIORS_KEPT = 4096
_PROMPTS_KEPT = 256


@dataclass(slots=True)
class Model(Asking):
    """One model, loaded. Not for several threads at once.

    name: what reports call it. image: the picture's geometry. sight: what it has looked at. allowed: (vocabulary,) bool,
    tokens that may be generated. calibration: the bundle's, where it is for this artefact, backend and prompt.
    """

    engine: Engine
    tokenizer: Tokenizer
    chat: ChatFormat
    image: ImageSpec
    name: str
    bundle: Bundle | None = None
    folder: Path | None = None  # a model folder, where no bundle was loaded
    calibration: Calibration | None = field(init=False, default=None)
    sight: Sight = field(init=False, repr=False)
    allowed: np.ndarray = field(init=False, repr=False)
    _priors: OrderedDict[tuple[int, ...], float] = field(default_factory=OrderedDict, repr=False)
    _encoded: Callable[[bool, tuple[Turn, ...]], tuple[tuple[int, ...], int]] = field(init=False, repr=False)
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
        _log.info("%s: %s on %s", self.name, self.engine.backend, self.engine.device)
        self.sight = Sight(self.engine, self.image, self.name)
        self._encoded = lru_cache(maxsize=_PROMPTS_KEPT)(self._encode)  # people ask the same of many pictures
        # Padding rows stand for no token, and a generated image token would have no features.
        self.allowed = np.arange(self.engine.vocabulary) < known
        self.allowed[self.engine.image_token] = False
        self._yes, self._no = spellings(self.tokenizer, "yes"), spellings(self.tokenizer, "no")
        self.calibration = fitting(self)

    @classmethod
    def load(cls, path: Path, backend: str = "auto", precise: bool = False, device: str = "auto") -> Model:
        """A bundle (by its target) or a model folder (in PyTorch).

        backend: a name, or ``auto`` for the one that runs what is there. precise: 32-bit caches and sums, for comparisons.
        device: ``cpu``, ``cuda``, or ``auto`` for the first that works; ``engine.device`` names it.
        Raises BundleError, BackboneError or BackendError with what is wrong, MissingPackage with what to install.
        """
        path = Path(path)
        if (path / MANIFEST).is_file():
            bundle = Bundle.load(path)
            _warn_of_failed_parity(bundle)
            engine = backend_for(backend, bundle.target, path).load(path, precise=precise, device=device)
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
            engine = backend_for(backend, "torch", path).load(path, precise=precise, device=device)
            return cls(engine, folder.tokenizer(), folder.chat, folder.image, path.resolve().name, folder=path)
        raise BackendError(
            f"{path}: neither a bundle ({MANIFEST}) nor a model folder (config.json).",
            hint="Name an exported bundle, a merged model folder, or 'starter'.",
        )

    def close(self) -> None:
        """Give back caches and weights. The model is not used again."""
        self.sight.close()
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Looking

    def look(self, image: Picture, system: str | None = None) -> None:
        """Encode the picture and prefill it now, so that the first question need not wait for it."""
        turns = ([Turn("system", system)] if system else []) + [Turn("user", "?")]
        ids, cut = self.prompt(image, turns)
        if image is not None:
            self.sight.prefix(image, tuple(ids[:cut]))

    def forget(self) -> None:
        """From here on, answers do not depend on what was asked before, to the last bit.

        Where a cache holds its rows decides the last bits of a sum, so pictures' beginnings and remembered values go; features,
        which are the same each time, stay.
        """
        self.sight.forget()
        self._priors.clear()

    def prompt(self, image: Picture, turns: Sequence[Turn]) -> tuple[list[int], int]:
        """Token ids, and how many of them belong to the beginning that all questions about the picture share."""
        ids, cut = self._encoded(image is not None, tuple(turns))
        return list(ids), cut

    def _encode(self, seen: bool, turns: tuple[Turn, ...]) -> tuple[tuple[int, ...], int]:
        tokens = self.image.tokens if seen else 0
        ids, _ = encode(self.tokenizer, self.chat, turns, image_tokens=tokens, image_id=self.engine.image_token)
        return tuple(ids), len(ids) - ids[::-1].index(self.engine.image_token) if seen else 0

    def begin(self, image: Picture, turns: Sequence[Turn]) -> tuple[Stream, np.ndarray]:
        """A stream that holds the prompt, for the caller to close, and the logits of the answer's first token."""
        ids, cut = self.prompt(image, turns)
        stream, logits = self.run(image, ids, cut)
        return stream, logits[-1]

    def run(self, image: Picture, ids: Sequence[int], cut: int, *, every: bool = False) -> tuple[Stream, np.ndarray]:
        """A stream that holds ``ids``, and the logits after the last or after each of ids[cut:]. The caller closes it."""
        if len(ids) > self.engine.context:
            raise BackendError(
                f"The conversation has {len(ids):,} tokens, the model's context holds {self.engine.context:,}.",
                hint="Shorten the conversation, or start a new one.",
            )
        prefix = None if image is None else self.sight.prefix(image, tuple(ids[:cut]))
        stream = self.sight.room(self.engine.open if prefix is None else prefix.fork, prefix)
        try:
            logits = self.sight.room(lambda: stream.feed(ids[cut:], logits="all" if every else "last"), prefix)
        except BaseException:
            stream.close()
            raise
        return stream, logits

    # Answering

    def events(
        self, image: Picture, turns: Sequence[Turn], options: Options, guards: Guarding = "none"
    ) -> Iterator[Event]:
        """The answer as it comes: pieces, what guards take back, and last the finished answer.

        guards: a name, several with commas between them, or guards. Raises at once what can be known at once.
        """
        request = Request(self, image, tuple(turns), options)
        require_room(request)
        return guarded(request, guards)

    def respond(self, image: Picture, turns: Sequence[Turn], options: Options) -> Iterator[str]:
        """The plain answer, piece by piece, in whole characters."""
        events = self.events(image, turns, options)
        return (event.text for event in events if isinstance(event, Piece))

    def answer(self, image: Picture, turns: Sequence[Turn], options: Options, guards: Guarding = "none") -> Answer:
        """The whole answer, and with guards what the picture says about its claims."""
        *_, last = self.events(image, turns, options, guards)
        assert isinstance(last, Done)
        return last.answer

    def answer_many(
        self, image: Picture, questions: Sequence[str], options: Options, guards: Guarding = "none"
    ) -> list[Answer]:
        """One answer to each question, each in a conversation of its own; the picture is encoded and prefilled once, and
        what no decoding guard and no grammar changes is written together.
        """
        turns = [(Turn("user", question),) for question in questions]
        decoding, looking = chosen(guards)
        if decoding or options.grammar:
            return [self.answer(image, asked, options, guards) for asked in turns]
        drafts = answers_together(self, image, turns, options)
        requests = [Request(self, image, asked, options) for asked in turns]
        return [looked_at(request, draft, looking) for request, draft in zip(requests, drafts, strict=True)]

    # Scoring

    def score(self, image: Picture, turns: Sequence[Turn], continuation: str) -> float:
        """Log-probability of ``continuation`` as the next assistant turn, end-of-turn left out, in nats."""
        return float(self.score_tokens(image, turns, continuation).log_probs.sum())

    def score_tokens(self, image: Picture, turns: Sequence[Turn], text: str) -> Scored:
        """The same token by token, from one feed."""
        return score_text(self, image, turns, text)

    def first_logits(self, image: Picture, turns: Sequence[Turn]) -> np.ndarray:
        """Logits of the answer's first token, (vocabulary,) float32."""
        stream, logits = self.begin(image, turns)
        stream.close()
        return logits

    def first_logits_many(self, image: Picture, questions: Sequence[Sequence[Turn]]) -> list[np.ndarray]:
        """The same for each question in a conversation of its own, computed together where the engine can."""
        return first_logits_many(self, image, questions)

    def yes_over_no(self, image: Picture, turns: Sequence[Turn]) -> float:
        """How much likelier the answer begins with yes than with no, in nats: all one-token spellings of each, summed.

        Without a picture the value depends on the words alone and is remembered.
        """
        return self.yes_over_no_many(image, [turns])[0]

    def yes_over_no_many(self, image: Picture, questions: Sequence[Sequence[Turn]]) -> list[float]:
        """``yes_over_no`` of each question, computed together where the engine can."""
        if image is not None:
            return [self._leaning(logits) for logits in self.first_logits_many(image, questions)]
        keys = [tuple(self.prompt(None, turns)[0]) for turns in questions]
        new = {key: turns for key, turns in zip(keys, questions, strict=True) if key not in self._priors}
        found = {key: self._priors[key] for key in keys if key in self._priors}
        for key, logits in zip(new, self.first_logits_many(None, list(new.values())), strict=True):
            found[key] = self._priors[key] = self._leaning(logits)
        while len(self._priors) > _PRIORS_KEPT:
            self._priors.popitem(last=False)
        return [found[key] for key in keys]

    def _leaning(self, logits: np.ndarray) -> float:
        log_probs = log_softmax(logits)
        return log_sum_exp(log_probs[self._yes]) - log_sum_exp(log_probs[self._no])


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


def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises plain Exception
        raise BundleError(f"{path}: the tokenizer cannot be read ({error}).", hint="Export the bundle again.") from None
