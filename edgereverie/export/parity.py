"""How far an exported model is from the one it was made from, position by position.

Both are engines (see ``runtime.engine``) that the caller hands in. They are fed the same tokens, right or wrong, so one
different choice does not hide or multiply the differences after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.base import Case, ParityBound

if TYPE_CHECKING:

    class Stream(Protocol):
        def feed(
            self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: str = "last"
        ) -> np.ndarray: ...

        def close(self) -> None: ...

    class Engine(Protocol):
        backend: str
        context: int
        image_token: int

        def encode(self, pixels: np.ndarray) -> np.ndarray: ...

        def open(self) -> Stream: ...


GREEDY_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Parity:
    """The comparison's figures and verdict.

    max_logit_diff: largest absolute difference of any logit. top1: share of positions with the same most likely token.
    mean_kl: mean divergence of the exported distribution from the reference's, in nats. max_feature_diff: largest
    absolute difference of any image feature, None without pictures. greedy: share of cases whose greedy continuations
    are equal. faults: why it failed, empty when it passed.
    """

    reference: str
    exported: str
    cases: int
    image_cases: int
    positions: int
    max_logit_diff: float
    top1: float
    mean_kl: float
    max_feature_diff: float | None
    greedy: float
    bound: ParityBound
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """Plain values for a bundle's ``parity``, with ``passed`` among them."""
        return asdict(self) | {"bound": self.bound.model_dump(), "faults": list(self.faults), "passed": self.passed}

    def require(self) -> None:
        """Raise ExportError that lists the faults, if there are any."""
        if self.faults:
            raise ExportError(
                "The exported model differs from the one it was made from: " + " ".join(self.faults),
                hint="Do not use this bundle. Export with a finer quantization, or report the model.",
            )


def compare(reference: Engine, exported: Engine, cases: Sequence[Case], bound: ParityBound) -> Parity:
    """Feed every case to both and judge the differences by ``bound``. Raises ExportError when there are no cases.

    Each engine encodes the pictures itself, so an error of the vision encoder shows in the logits too.
    """
    if not cases:
        raise ExportError("Parity needs at least one prompt to compare on.")
    logit_diffs, feature_diffs, same_top, divergences, same_greedy = [], [], [], [], []
    for ids, pixels in cases:
        expected, expected_features, expected_next = _run(reference, ids, pixels)
        found, found_features, found_next = _run(exported, ids, pixels)
        if expected.shape != found.shape:
            raise ExportError(
                f"{exported.backend} gives logits of shape {found.shape}, {reference.backend} of {expected.shape}.",
                hint="The bundle was made from another model.",
            )
        logit_diffs.append(_largest(expected - found))
        same_top.append(expected.argmax(-1) == found.argmax(-1))
        divergences.append(_divergence(expected, found))
        same_greedy.append(expected_next == found_next)
        if expected_features is not None and found_features is not None:
            feature_diffs.append(_largest(expected_features - found_features))
    top1 = float(np.concatenate(same_top).mean())
    figures = {
        "max_logit_diff": max(logit_diffs),
        "top1": top1,
        "mean_kl": float(np.concatenate(divergences).mean()),
        "max_feature_diff": max(feature_diffs, default=None),
        "greedy": sum(same_greedy) / len(cases),
    }
    return Parity(
        reference=reference.backend,
        exported=exported.backend,
        cases=len(cases),
        image_cases=len(feature_diffs),
        positions=sum(len(one) for one in same_top),
        bound=bound,
        faults=_faults(max(logit_diffs), top1, bound),
        **figures,
    )


def _run(
    engine: Engine, ids: Sequence[int], pixels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, list[int]]:
    """Logits at every position (float64), the picture's features, and the greedy continuation."""
    features = None if pixels is None else engine.encode(pixels)
    stream = engine.open()
    try:
        logits = np.asarray(stream.feed(ids, features, logits="all"), dtype=np.float64)
        tokens = [_next(logits[-1], engine.image_token)]
        while len(tokens) < min(GREEDY_TOKENS, engine.context - len(ids)):
            tokens.append(_next(stream.feed(tokens[-1:])[-1], engine.image_token))
    finally:
        stream.close()
    return logits, features, tokens


def _next(logits: np.ndarray, image_token: int) -> int:
    """The greedy choice among all tokens but the image's, which stands for features that nobody has."""
    return int(np.where(np.arange(len(logits)) == image_token, -np.inf, logits).argmax())


def _divergence(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """KL(expected || found) at each position, in nats."""
    p, q = (logits - _log_sum(logits) for logits in (expected, found))
    return (np.exp(p) * (p - q)).sum(-1)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    peak = logits.max(-1, keepdims=True)
    return peak + np.log(np.exp(logits - peak).sum(-1, keepdims=True))


def _largest(difference: np.ndarray) -> float:
    """The largest absolute value; NaN counts as infinitely far."""
    largest = np.abs(difference).max()
    return float(largest) if np.isfinite(largest) else float("inf")


def _faults(max_logit_diff: float, top1: float, bound: ParityBound) -> tuple[str, ...]:
    found = []
    if not np.isfinite(max_logit_diff):
        found.append("It gives NaN or infinite logits.")
    elif bound.max_logit_diff is not None and max_logit_diff > bound.max_logit_diff:
        found.append(f"Logits differ by up to {max_logit_diff:.3g}; the profile allows {bound.max_logit_diff:g}.")
    if top1 < bound.min_top1:
        found.append(
            f"The most likely token is the same at {top1:.1%} of positions; the profile asks for {bound.min_top1:.1%}."
        )
    return tuple(found)
