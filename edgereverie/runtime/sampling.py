"""From logits to a token and its log-probability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgereverie.errors import BackendError
from edgereverie.records import Options, Token


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, float64. Raises BackendError when a logit is not a number.

    >>> np.exp(log_softmax(np.log(np.array([1.0, 3.0])))).round(6).tolist()
    [0.25, 0.75]
    """
    if np.isnan(logits).any():
        raise BackendError(
            "The model computed logits that are not numbers (NaN).",
            hint="The weights are damaged, or they overflow in half precision: check the bundle's hashes, or "
            "export it in fp32.",
        )
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def log_sum_exp(values: np.ndarray) -> float:
    """The logarithm of a sum of exponentials, float64 inside.

    >>> round(log_sum_exp(np.log(np.array([0.25, 0.5]))), 6) == round(float(np.log(0.75)), 6)
    True
    """
    top = float(np.max(values))
    return top + float(np.log(np.exp(values.astype(np.float64) - top).sum()))


def choose(
    logits: np.ndarray, allowed: np.ndarray, options: Options, record: Sequence[Token], rng: np.random.Generator
) -> tuple[int, tuple[float, float, float, int]]:
    """The next token, and what a ``Token`` says of it: log-probability, margin, entropy and rank.

    logits, allowed (bool): (vocabulary,). record: the answer's tokens so far. Measured under the model's own distribution
    (temperature 1, nothing forbidden). temperature 0 takes the likeliest, the lowest id among equals.
    """
    log_probs = log_softmax(logits)
    masked = np.where(allowed, log_probs, -np.inf)
    if options.temperature <= 0:
        token = int(masked.argmax())
    else:
        weights = np.exp((masked - masked.max()) / options.temperature)
        bounds = np.cumsum(weights)
        token = int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))
    second, first = np.partition(log_probs, -2)[-2:]
    likely = log_probs[log_probs > -745.0]  # below, a probability is 0 in float64
    entropy = float(-(np.exp(likely) * likely).sum())
    rank = int((log_probs > log_probs[token]).sum())
    return token, (float(log_probs[token]), float(first - second), entropy, rank)
