"""From logits to a token and its log-probability.

How a token is drawn, in transformers' order: what may not come is left out, then repetition penalty, temperature, top-k,
top-p, min-p, each on what the one before it left; then one draw. (llama.cpp divides by the temperature last.) At temperature
0 the likeliest token comes, and of these only the first two apply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgereverie.errors import BackendError
from edgereverie.records import Options, Token
from edgereverie.runtime.grammar import Constraint

_FLOOR = -87.0  # e to this is still a normal number in 32 bit, and 0 beside any probability that is told
_NEVER = 745.0  # e to minus this is 0 in 64 bit


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis, float64. Raises BackendError when a logit is not a number.

    >>> np.exp(log_softmax(np.log(np.array([1.0, 3.0])))).round(6).tolist()
    [0.25, 0.75]
    """
    wide = logits.astype(np.float64)
    top = wide.max(axis=-1, keepdims=True)
    _require_numbers(top)
    wide -= top
    # Row by row, which stays in the processor's cache: for a whole answer new memory would cost more than the sums.
    sums = [np.exp(row).sum() for row in wide.reshape(-1, wide.shape[-1])]
    wide -= np.log(sums).reshape(top.shape)
    return wide


def log_sum_exp(values: np.ndarray) -> float:
    """The logarithm of a sum of exponentials, float64 inside.

    >>> round(log_sum_exp(np.log(np.array([0.25, 0.5]))), 6) == round(float(np.log(0.75)), 6)
    True
    """
    top = float(np.max(values))
    return top + float(np.log(np.exp(values.astype(np.float64) - top).sum()))


def check_options(options: Options) -> None:
    """Raise BackendError for a value that means nothing, with the values that do."""
    limits = {
        "max_tokens": (options.max_tokens >= 1, "at least 1"),
        "temperature": (0 <= options.temperature < math.inf, "0 for the likeliest token, or more"),
        "seed": (options.seed >= 0, "0 or more"),
        "top_k": (options.top_k >= 0, "0 for all tokens, or how many to keep"),
        "top_p": (0 < options.top_p <= 1, "more than 0 and at most 1, which keeps all tokens"),
        "min_p": (0 <= options.min_p <= 1, "0, which keeps all tokens, to 1"),
        "repetition_penalty": (0 < options.repetition_penalty < math.inf, "more than 0; 1 is none"),
    }
    for name, (holds, meant) in limits.items():
        if not holds:
            raise BackendError(f"{name} is {getattr(options, name)}.", hint=f"It should be {meant}.")
    if any(not word for word in options.stop):
        raise BackendError("A stop word is empty.", hint="Leave it out; an empty word would end every answer.")


def choose(
    logits: np.ndarray,
    allowed: np.ndarray,
    options: Options,
    record: Sequence[Token],
    rng: np.random.Generator,
    constraint: Constraint | None = None,
) -> tuple[int, tuple[float, float, float, int]]:
    """The next token, and what a ``Token`` says of it: log-probability, margin, entropy and rank.

    logits, allowed (bool): (vocabulary,). record: the answer's tokens so far. constraint: what else forbids tokens. Measured
    under the model's own distribution (temperature 1, nothing forbidden). Of equally likely ones the lowest id comes.
    """
    best = int(logits.argmax())
    _require_numbers(logits[best])
    if options.temperature > 0:
        token = _drawn(logits, allowed, options, record, rng, constraint)
    elif options.repetition_penalty == 1 and allowed[best] and (constraint is None or constraint.allow([best])[0]):
        token = best  # the likeliest of all is the likeliest of those that may come
    else:
        token = int(_remaining(logits, allowed, options, record, constraint).argmax())
    return token, measured(logits, token, best)


def choose_each(
    logits: Sequence[np.ndarray],
    allowed: np.ndarray,
    options: Options,
    records: Sequence[Sequence[Token]],
    rngs: Sequence[np.random.Generator],
) -> list[tuple[int, tuple[float, float, float, int]]]:
    """``choose`` for several answers, each with its own record and chance. Where all get their likeliest token, as greedy ones
    do, that is measured for all at once.
    """
    rows = np.stack(logits)
    best, lanes = rows.argmax(axis=1), np.arange(len(rows))
    if options.temperature > 0 or options.repetition_penalty != 1 or not allowed[best].all():
        each = zip(logits, records, rngs, strict=True)
        return [choose(row, allowed, options, record, rng) for row, record, rng in each]
    top = rows[lanes, best]
    _require_numbers(top)
    shifted = np.maximum(rows - top[:, None], _FLOOR)
    weights = np.exp(shifted)
    total = weights.sum(axis=1, dtype=np.float64)
    entropy = np.log(total) - np.einsum("ij,ij->i", weights, shifted) / total
    shifted[lanes, best] = -np.inf
    margin = np.minimum(top.astype(np.float64) - rows[lanes, shifted.argmax(axis=1)], _NEVER)
    figures = zip(best.tolist(), (-np.log(total)).tolist(), margin.tolist(), entropy.tolist(), strict=True)
    return [(token, (log_prob, apart, max(unsure, 0.0), 0)) for token, log_prob, apart, unsure in figures]


def measured(logits: np.ndarray, token: int, best: int) -> tuple[float, float, float, int]:
    """Log-probability, margin, entropy and rank of ``token``, all finite. best: the likeliest token.

    In the logits' own precision, for it is done at each step: 32 bits hold a log-probability to 1e-6.
    """
    top = logits[best]
    shifted = np.maximum(logits - top, _FLOOR)
    weights = np.exp(shifted)
    total = float(weights.sum(dtype=np.float64))
    entropy = math.log(total) - float(weights @ shifted) / total
    log_prob = max(float(logits[token]) - float(top), -_NEVER) - math.log(total)
    shifted[best] = -np.inf
    second = int(shifted.argmax())
    margin = min(float(top) - float(logits[second]), _NEVER)
    rank = 0 if token == best else int(np.count_nonzero(logits > logits[token]))
    return log_prob, margin, max(entropy, 0.0), rank


def kept(logits: np.ndarray, options: Options) -> np.ndarray:
    """Logits at the temperature, float64, with -inf where top-k, top-p and min-p leave a token out.

    As transformers' TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper and MinPLogitsWarper in this order: ties with
    the last of the k stay, and the likeliest token always does.
    """
    with np.errstate(over="ignore"):  # next to no temperature leaves the likeliest alone
        scores = (logits.astype(np.float64) - logits.max()) / options.temperature
    if 0 < options.top_k < len(scores):
        scores[scores < np.partition(scores, -options.top_k)[-options.top_k]] = -np.inf
    if options.top_p < 1:
        nucleus = _nucleus(scores, options.top_p)
        left = np.full(len(scores), -np.inf)
        left[nucleus] = scores[nucleus]
        scores = left
    if options.min_p > 0:
        scores[scores < scores.max() + math.log(options.min_p)] = -np.inf
    return scores


def _drawn(
    logits: np.ndarray,
    allowed: np.ndarray,
    options: Options,
    record: Sequence[Token],
    rng: np.random.Generator,
    constraint: Constraint | None,
) -> int:
    scores = kept(_remaining(logits, allowed, options, record, constraint), options)
    tokens = np.flatnonzero(scores > -np.inf)
    bounds = np.cumsum(np.exp(scores[tokens] - scores[tokens].max()))
    return int(tokens[np.searchsorted(bounds, rng.random() * bounds[-1], side="right")])


def _nucleus(scores: np.ndarray, share: float) -> np.ndarray:
    """Ids of the likeliest tokens up to and with the one by which they have that share of the probability.

    Of equally likely ones the lower id counts as likelier. Only as many are sorted as it takes.
    """
    weights = np.exp(scores - scores.max())
    wanted, size = share * weights.sum(), len(scores)
    for most in (256, 4096, size):
        some = np.arange(size)
        if most < size:
            some = np.flatnonzero(scores >= np.partition(scores, size - most)[size - most])
        order = some[np.argsort(-scores[some], kind="stable")]
        before = np.cumsum(weights[order]) - weights[order]
        if before[-1] >= wanted:
            break
    return order[(before < wanted) & (scores[order] > -np.inf)]


def _remaining(
    logits: np.ndarray, allowed: np.ndarray, options: Options, record: Sequence[Token], constraint: Constraint | None
) -> np.ndarray:
    """Logits after the repetition penalty (Keskar et al. 2019, as transformers has it), -inf for what may not come."""
    free = np.flatnonzero(allowed & (logits > -np.inf))
    if constraint is not None:
        free = free[constraint.allow(free)]
    if not len(free):
        raise BackendError("No token may come next.", hint="The grammar allows nothing that the model can say here.")
    left = np.full(len(logits), -np.inf, logits.dtype)
    left[free] = logits[free]
    if options.repetition_penalty != 1 and record:
        said = list({token.id for token in record})
        left[said] = np.where(
            left[said] < 0, left[said] * options.repetition_penalty, left[said] / options.repetition_penalty
        )
    return left


def _require_numbers(top: np.ndarray | float) -> None:
    """top: the largest of logits, which is not a number when one of them is none."""
    if not np.isfinite(top).all():
        raise BackendError(
            "The model computed logits that are not numbers (NaN or infinite).",
            hint="The weights are damaged, or they overflow in half precision: check the bundle's hashes, or "
            "export it in fp32.",
        )
