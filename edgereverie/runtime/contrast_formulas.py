"""How the logits of two streams are combined into one, formula by formula as the published code has it.

Every function takes finite (vocabulary,) arrays and computes in float64; -inf in what it gives is a token not to be said.
``seen`` are logits with the picture, ``other`` those of a second stream that sees less of it, or something else. Sources are
the repositories that the papers link: VCD (arXiv 2311.16922), M3ID (2403.14003), PAI (2407.21771), MARINE (2402.08680),
RITUAL (2405.17821), AGLA (2406.12718), ONLY (2507.00898), CRoPS (2601.00659).
"""

from __future__ import annotations

from math import exp

import numpy as np

from edgereverie.runtime.sampling import log_softmax, log_sum_exp

_STEPS = 1000  # of the diffusion whose noise VCD borrows


def plausible(seen: np.ndarray, beta: float) -> np.ndarray:
    """(vocabulary,) bool: tokens at least ``beta`` times as likely as the likeliest (contrastive decoding's constraint).

    >>> plausible(np.log([0.6, 0.35, 0.05]), 0.1).tolist()
    [True, True, False]
    """
    return seen >= np.log(beta) + seen.max()


def cut(combined: np.ndarray, seen: np.ndarray, beta: float) -> np.ndarray:
    """``combined`` where the picture's own logits find a token plausible, -inf elsewhere."""
    return np.where(plausible(seen, beta), combined, -np.inf)


def vcd(seen: np.ndarray, other: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """VCD and ICD: (1 + alpha) seen - alpha other."""
    return cut((1 + alpha) * seen - alpha * other, seen, beta)


def m3id(seen: np.ndarray, other: np.ndarray, step: int, decay: float, beta: float) -> np.ndarray:
    """M3ID: the longer the answer, the more of the language prior is taken off; nothing at step 0.

    seen + (1 - g) / g * (seen - other) with g = exp(-decay * step).
    """
    kept = exp(-decay * step)
    return cut(seen + (1 - kept) / kept * (seen - other), seen, beta)


def guided(seen: np.ndarray, other: np.ndarray, gamma: float, beta: float) -> np.ndarray:
    """PAI's second part, classifier-free guidance on log-probabilities: gamma (seen - other) + other."""
    own, less = log_softmax(seen), log_softmax(other)
    return cut(gamma * (own - less) + less, seen, beta)


def blended(seen: np.ndarray, other: np.ndarray, gamma: float) -> np.ndarray:
    """MARINE: (1 - gamma) of the plain prompt's log-probabilities and gamma of a prompt's that names detected objects."""
    return log_softmax((1 - gamma) * log_softmax(seen) + gamma * log_softmax(other))


def added(seen: np.ndarray, other: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """RITUAL and AGLA: seen + alpha other, of the same picture turned or cut out."""
    return cut(seen + alpha * other, seen, beta)


def crops(
    seen: np.ndarray, other: np.ndarray, third: np.ndarray, step: int, *, decay: float, alpha: float, beta: float,
    sure: float,
) -> np.ndarray:  # fmt: skip
    """CRoPS: a sure step is left alone; else M3ID on the log-probabilities of what is plausible, and from that a third
    stream's taken off. Cut before anything is normalised.
    """
    own = seen - log_sum_exp(seen[plausible(seen, beta)])
    if exp(log_softmax(seen).max()) > sure:
        return cut(own, seen, beta)
    kept = exp(-decay * step)
    less = own + (1 - kept) / kept * (own - log_softmax(other))
    return cut((1 + alpha) * less - alpha * log_softmax(third), seen, beta)


def adaptive(seen: np.ndarray, other: np.ndarray, near: float, beta: float) -> np.ndarray:
    """ONLY: seen + 3 other where the streams hardly differ, 2 seen - other where they do (see ``distance``)."""
    if distance(seen, other) < near:
        return added(seen, other, 3.0, beta)
    return vcd(seen, other, 1.0, beta)


def distance(seen: np.ndarray, other: np.ndarray) -> float:
    """Sum of absolute differences of the two distributions, 0 to 2: twice the total variation."""
    return float(np.abs(np.exp(log_softmax(seen)) - np.exp(log_softmax(other))).sum())


def divergence(seen: np.ndarray, other: np.ndarray) -> float:
    """Kullback and Leibler's, of seen from other, in nats."""
    own = log_softmax(seen)
    return float((np.exp(own) * (own - log_softmax(other))).sum())


def jensen_shannon(seen: np.ndarray, other: np.ndarray) -> float:
    """Jensen and Shannon's divergence, in nats."""
    own, less = log_softmax(seen), log_softmax(other)
    middle = np.log((np.exp(own) + np.exp(less)) / 2)
    return float((np.exp(own) * (own - middle) + np.exp(less) * (less - middle)).sum() / 2)


def kept_and_noise(step: int) -> tuple[float, float]:
    """How much of the picture and how much noise VCD mixes at a diffusion step: sqrt(alpha bar), sqrt(1 - alpha bar).

    step: 0 to 999. Betas rise along a sigmoid from 1e-5 to 5e-3.
    """
    betas = (0.5e-2 - 1e-5) / (1 + np.exp(-np.linspace(-6, 6, _STEPS))) + 1e-5
    kept = float(np.prod(1 - betas[: step + 1]))
    return kept**0.5, (1 - kept) ** 0.5


def noised(pixels: np.ndarray, step: int, seed: int) -> np.ndarray:
    """Normalised pixels (3, H, W) with VCD's noise of that step, float32; equal seeds, equal noise."""
    kept, noise = kept_and_noise(step)
    drawn = np.random.default_rng(seed).standard_normal(pixels.shape)
    return (kept * pixels + noise * drawn).astype(np.float32)
