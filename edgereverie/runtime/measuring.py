"""What a ``Token`` records, where a token was not drawn by ``sampling.choose`` or not from the model's own logits."""

from __future__ import annotations

import numpy as np

from edgereverie.runtime.sampling import log_softmax

Measured = tuple[float, float, float, int]


def measured(logits: np.ndarray, token: int) -> Measured:
    """Log-probability, margin, entropy and rank of ``token`` under the model's logits (vocabulary,), as ``Token`` has them.

    >>> [round(x, 6) for x in measured(np.log(np.array([0.5, 0.25, 0.25])), 1)]
    [-1.386294, 0.693147, 1.039721, 1]
    """
    log_probs = log_softmax(logits)
    second, first = np.partition(log_probs, -2)[-2:]
    likely = log_probs[log_probs > -745.0]  # below, a probability is 0 in float64
    entropy = float(-(np.exp(likely) * likely).sum())
    return float(log_probs[token]), float(first - second), entropy, int((log_probs > log_probs[token]).sum())
