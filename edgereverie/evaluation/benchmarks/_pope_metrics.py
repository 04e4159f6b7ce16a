"""What each of POPE's scorers prints, as formulas on summed counts; in their order of operations, to the last digit."""

from __future__ import annotations

import numpy as np

from edgereverie.evaluation import statistics
from edgereverie.evaluation.statistics import Formula, Metric, ratio

COLUMNS = statistics.YES_NO_COLUMNS
UNREAD_COLUMNS = (*COLUMNS, "unread_yes", "unread_no")  # neither yes nor no was read, by the truth
MARINE_COLUMNS = (*COLUMNS, "words", "answers")


def _precision(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], counts[..., 0] + counts[..., 1])


def _recall(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], counts[..., 0] + counts[..., 3])


def _recall_of_all(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 0], counts[..., 0] + counts[..., 3] + counts[..., 4])


def _harmonic(precision: Formula, recall: Formula) -> Formula:
    """2 p r / (p + r) as the scorers work it out; 0 where something was said or missed, and nothing found."""

    def formula(counts: np.ndarray) -> np.ndarray:
        p, r = precision(counts), recall(counts)
        return np.where(counts[..., 0] > 0, ratio(2 * p * r, p + r), statistics.f1(counts[..., :4]))

    return formula


def _of_all(*places: int) -> Formula:
    """Share of these columns among all answers."""
    return lambda counts: ratio(sum(counts[..., place] for place in places), counts.sum(axis=-1))


def _or_zero(formula: Formula) -> Formula:
    return lambda counts: np.nan_to_num(formula(counts), nan=0.0)


def _percent(formula: Formula) -> Formula:
    return lambda counts: formula(counts) * 100


def _rounded(formula: Formula, digits: int = 4) -> Formula:
    """Rounded as Python rounds: 102 / 320 is 0.3187."""
    each = np.vectorize(lambda value: round(value, digits), otypes=[np.float64])
    return lambda counts: each(formula(counts))


def _of_marine(formula: Formula) -> Formula:
    """Rounded as numpy rounds, whose numbers MARINE's scorer gets from a confusion matrix: 102 / 320 is 0.3188."""
    return lambda counts: np.round(_or_zero(formula)(counts[..., :4]), 4)


def _specificity(counts: np.ndarray) -> np.ndarray:
    return ratio(counts[..., 2], counts[..., 2] + counts[..., 1])


D_PRIME = Metric("d_prime", "d'", statistics.d_prime, share=False)
_F1 = _harmonic(_precision, _recall)

OFFICIAL = (
    Metric("accuracy", "Accuracy", statistics.accuracy),
    Metric("precision", "Precision", _precision),
    Metric("recall", "Recall", _recall),
    Metric("f1", "F1", _F1),
    Metric("yes_ratio", "Yes ratio", statistics.yes_ratio, better=None),
    D_PRIME,
)
VCD = (
    Metric("accuracy", "Accuracy", statistics.accuracy),
    Metric("precision", "Precision", _precision),
    Metric("recall", "Recall", _recall),
    Metric("f1", "F1", _F1),
    Metric("yes_ratio", "yes", statistics.yes_ratio, better=None),
    # Questions whose label is neither yes nor no; the reader refuses such files.
    Metric("unknown", "unknown", lambda counts: np.zeros(counts.shape[:-1]), better="lower"),
    D_PRIME,
)
MARINE = (
    Metric("accuracy", "Accuracy", _of_marine(statistics.accuracy)),
    Metric("precision", "Precision", _of_marine(_precision)),
    Metric("recall", "Recall", _of_marine(_recall)),
    Metric("f1", "F1", _of_marine(statistics.f1)),
    Metric("yes_ratio", "Yes_ratio", _rounded(lambda counts: statistics.yes_ratio(counts[..., :4])), better=None),
    Metric("specificity", "Specificity", _of_marine(_specificity)),
    Metric("length", "length_response", _rounded(lambda counts: ratio(counts[..., 4], counts[..., 5]), 2), None, False),
    D_PRIME,
)
LMMS = (
    Metric("accuracy", "pope_accuracy", _of_all(0, 2)),
    Metric("precision", "pope_precision", _or_zero(_precision)),
    Metric("recall", "pope_recall", _or_zero(_recall)),  # of the answers that were read
    Metric("f1", "pope_f1_score", _or_zero(_F1)),
    Metric("yes_ratio", "pope_yes_ratio (of the truth)", _of_all(0, 3, 4), better=None),
)
VLMEVALKIT = (
    Metric("accuracy", "acc", _percent(_of_all(0, 2)), share=False),
    Metric("precision", "precision", _percent(_or_zero(_precision)), share=False),
    Metric("recall", "recall", _percent(_or_zero(_recall_of_all)), share=False),
    Metric("f1", "Overall", _percent(_or_zero(_harmonic(_precision, _recall_of_all))), share=False),
    Metric("unknown", "Unknown", lambda counts: counts[..., 4] + counts[..., 5], better="lower", share=False),
)
