"""How far an exported model is from the one it was made from, position by position.

Both are engines (see ``runtime.engine``) that the caller hands in. They are fed the same tokens, right or wrong, so one
different choice does not hide or multiply the differences after it. The reference is observed once, into files: it serves
all the artefacts that were made of it, and need not stay in memory beside any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.base import Case, ParityBound

if TYPE_CHECKING:

    class Stream(Protocol):
        def feed(
            self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: str = "last"
        ) -> np.ndarray: ...

        def fork(self) -> Stream: ...

        def close(self) -> None: ...

    class Engine(Protocol):
        backend: str
        context: int
        image_token: int

        def encode(self, pixels: np.ndarray) -> np.ndarray: ...

        def open(self) -> Stream: ...


GREEDY_TOKENS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A conversation to compare on. ids, pixels: as in a Case. answers: for each id, whether it is part of an answer."""

    ids: Sequence[int]
    pixels: np.ndarray | None
    answers: Sequence[bool] = ()

    @property
    def asked(self) -> int:
        """How many ids come before the first answer."""
        return next((index for index, answer in enumerate(self.answers) if answer), len(self.ids))


@dataclass(frozen=True, slots=True)
class Parity:
    """The comparison's figures and verdict.

    positions: all of the text; where the picture stands, logits predict nothing. max_logit_diff: largest absolute difference
    of any logit. top1: share of positions with the same most likely token. mean_kl, max_kl: divergence of the exported
    distribution from the reference's, in nats. max_feature_diff: largest absolute difference of any image feature, None
    without pictures. greedy: share of prompts whose greedy answers begin equally, for 12 tokens. perplexity,
    reference_perplexity: of the prompts' own answers; None where none are marked. faults: why it failed, empty when it
    passed.
    """

    reference: str
    exported: str
    cases: int
    image_cases: int
    positions: int
    max_logit_diff: float
    top1: float
    mean_kl: float
    max_kl: float
    max_feature_diff: float | None
    greedy: float
    perplexity: float | None
    reference_perplexity: float | None
    bound: ParityBound
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Plain values for a bundle's ``parity``, with ``passed`` among them; what is not finite becomes None."""
        plain = {key: None if isinstance(value, float) and not math.isfinite(value) else value
                 for key, value in asdict(self).items()}  # fmt: skip
        return plain | {"bound": self.bound.model_dump(), "faults": list(self.faults), "passed": self.passed}

    def require(self) -> None:
        """Raise ExportError that lists the faults, if there are any."""
        if self.faults:
            raise ExportError(
                "The exported model differs from the one it was made from: " + " ".join(self.faults),
                hint="Do not use this bundle. Export with a finer quantization, or keep it to look into with "
                "--allow-parity-failure.",
            )


@dataclass(frozen=True, slots=True)
class Observed:
    """What the reference said to each prompt: logits and features in files of ``folder``, which the caller keeps."""

    backend: str
    prompts: Sequence[Prompt]
    folder: Path
    greedy: Sequence[Sequence[int]]

    def logits(self, index: int) -> np.ndarray:
        return np.load(self.folder / f"{index}.logits.npy", mmap_mode="r")

    def features(self, index: int) -> np.ndarray | None:
        path = self.folder / f"{index}.features.npy"
        return np.load(path) if path.exists() else None


def compare(reference: Engine, exported: Engine, cases: Sequence[Case | Prompt], bound: ParityBound) -> Parity:
    """Feed every case to both and judge the differences by ``bound``. Raises ExportError when there are no cases.

    Each engine encodes the pictures itself, so an error of the vision encoder shows in the logits too.
    """
    prompts = [case if isinstance(case, Prompt) else Prompt(*case) for case in cases]
    with TemporaryDirectory(prefix="edgereverie-parity-") as folder:
        return judge(observe(reference, prompts, Path(folder)), exported, bound)


def observe(
    engine: Engine, prompts: Sequence[Prompt], folder: Path, progress: Callable[[int, int], None] | None = None
) -> Observed:
    """What the reference says to all prompts, kept in ``folder``: 4 bytes for each token of the vocabulary and position."""
    greedy = []
    for index, prompt in enumerate(prompts):
        logits, features, tokens = _run(engine, prompt)
        np.save(folder / f"{index}.logits.npy", logits)
        if features is not None:
            np.save(folder / f"{index}.features.npy", features)
        greedy.append(tokens)
        if progress:
            progress(index + 1, len(prompts))
    return Observed(engine.backend, prompts, folder, greedy)


def judge(
    observed: Observed,
    exported: Engine,
    bound: ParityBound,
    *,
    most: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Feed the first ``most`` of the reference's prompts, or all, to ``exported`` and judge the differences."""
    prompts = observed.prompts[:most]
    if not prompts:
        raise ExportError("Parity needs at least one prompt to compare on.")
    logit_diffs, feature_diffs, same_top, divergences, losses = [], [], [], [], []
    same_greedy = 0
    for index, prompt in enumerate(prompts):
        expected, expected_features = observed.logits(index), observed.features(index)
        found, found_features, found_next = _run(exported, prompt)
        if expected.shape != found.shape:
            raise ExportError(
                f"{exported.backend} gives logits of shape {found.shape}, {observed.backend} of {expected.shape}.",
                hint="The bundle was made from another model.",
            )
        logit_diffs.append(_largest(expected - found))
        same_top.append(expected.argmax(-1) == found.argmax(-1))
        same_greedy += observed.greedy[index] == found_next
        if expected_features is not None and found_features is not None:
            feature_diffs.append(_largest(expected_features - found_features))
        p, q = _log_softmax(expected), _log_softmax(found)
        divergences.append((np.exp(p) * (p - q)).sum(-1))
        losses.append(_losses(prompt, p, q))
        if progress:
            progress(index + 1, len(prompts))
    kl, loss = np.concatenate(divergences), np.concatenate(losses)
    figures = {
        "max_logit_diff": max(logit_diffs),
        "top1": float(np.concatenate(same_top).mean()),
        "mean_kl": float(kl.mean()),
        "reference_perplexity": float(np.exp(loss[:, 0].mean())) if len(loss) else None,
        "perplexity": float(np.exp(loss[:, 1].mean())) if len(loss) else None,
    }
    return Parity(
        reference=observed.backend,
        exported=exported.backend,
        cases=len(prompts),
        image_cases=len(feature_diffs),
        positions=len(kl),
        max_kl=float(kl.max()),
        max_feature_diff=max(feature_diffs, default=None),
        greedy=same_greedy / len(prompts),
        bound=bound,
        faults=tuple(_faults(figures, bound)),
        **figures,
    )


def _run(engine: Engine, prompt: Prompt) -> tuple[np.ndarray, np.ndarray | None, list[int]]:
    """Logits of every position that a word follows or may follow, the picture's features, and the greedy answer.

    With a picture the first of them is that of its last token: the rows belong to ids[-rows:].
    """
    features = None if prompt.pixels is None else engine.encode(prompt.pixels)
    ids = list(prompt.ids)
    seen = 0 if features is None else len(ids) - ids[::-1].index(engine.image_token)
    asked = max(prompt.asked, seen + 1)
    rows = []
    stream = engine.open()
    try:
        if seen:
            rows.append(stream.feed(ids[:seen], features))
        if ids[seen:asked]:
            rows.append(stream.feed(ids[seen:asked], logits="all"))
        tokens = _greedy(engine, stream, rows[-1][-1], asked)
        if ids[asked:]:
            rows.append(stream.feed(ids[asked:], logits="all"))
    finally:
        stream.close()
    return np.concatenate([np.asarray(one, dtype=np.float32) for one in rows]), features, tokens


def _greedy(engine: Engine, stream: Stream, logits: np.ndarray, fed: int) -> list[int]:
    """The continuation after ``fed`` tokens, on a fork of the stream."""
    tokens = [_next(logits, engine.image_token)]
    fork = stream.fork()
    try:
        while len(tokens) < min(GREEDY_TOKENS, engine.context - fed):
            tokens.append(_next(fork.feed(tokens[-1:])[-1], engine.image_token))
    finally:
        fork.close()
    return tokens


def _next(logits: np.ndarray, image_token: int) -> int:
    """The greedy choice among all tokens but the image's, which stands for features that nobody has."""
    return int(np.where(np.arange(len(logits)) == image_token, -np.inf, logits).argmax())


def _losses(prompt: Prompt, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(answers' tokens, 2): minus the log-probability of each by the reference and by the artefact."""
    first = len(prompt.ids) - len(p) + 1  # the id that the first row predicts
    marked = [index for index, answer in enumerate(prompt.answers) if answer and index >= first]
    rows, tokens = np.array(marked, dtype=int) - first, np.array([prompt.ids[index] for index in marked], dtype=int)
    return -np.stack([p[rows, tokens], q[rows, tokens]], axis=1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def _largest(difference: np.ndarray) -> float:
    """The largest absolute value; NaN counts as infinitely far."""
    largest = np.abs(difference).max()
    return float(largest) if np.isfinite(largest) else float("inf")


def _faults(figures: dict[str, Any], bound: ParityBound) -> list[str]:
    if not math.isfinite(figures["max_logit_diff"]):
        return ["It gives NaN or infinite logits."]
    found = []
    if bound.max_logit_diff is not None and figures["max_logit_diff"] > bound.max_logit_diff:
        found.append(
            f"Logits differ by up to {figures['max_logit_diff']:.3g}; the profile allows {bound.max_logit_diff:g}."
        )
    if figures["top1"] < bound.min_top1:
        found.append(
            f"The most likely token is the same at {figures['top1']:.1%} of positions; the profile asks for "
            f"{bound.min_top1:.1%}."
        )
    if bound.max_mean_kl is not None and figures["mean_kl"] > bound.max_mean_kl:
        found.append(f"The mean divergence is {figures['mean_kl']:.3g} nats; the profile allows {bound.max_mean_kl:g}.")
    if bound.max_perplexity_ratio is not None and figures["perplexity"] is not None:
        ratio = figures["perplexity"] / figures["reference_perplexity"]
        if ratio > bound.max_perplexity_ratio:
            found.append(
                f"Its perplexity is {ratio:.3f} times the model's; the profile allows {bound.max_perplexity_ratio:g} times."
            )
    return found
