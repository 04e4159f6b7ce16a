"""A fusion learned from claims with known truth: features are standardised, weighed by a logistic regression with a penalty
and, where claims abound, straightened by an isotonic map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgereverie import measures
from edgereverie.runtime.calibration.scaling import fit_logistic, isotonic
from edgereverie.runtime.fusion import ASKED, EVERY, Feature, Fusion, Reading, Readings, figures, seen

STRAIGHTENED_FROM = 1000  # claims of a group that an isotonic map takes
_OWN_FROM, _OWN_EACH = 100, 15  # claims, and of the rarer label, that a kind of claim needs for weights of its own
_L2 = 1.0
_TAIL = 0.005  # of a feature's values on either side are pulled in to the rest
_CANDIDATES = (
    "log_prob_mean", "log_prob_min", "margin_min", "grounding", "grounding_min", "verification", "asked",
    "thing_verification", "thing_asked", "polarity", "log_length", "times", "nth", "reflection", "agreement",
)  # fmt: skip


def hears_negation(evidence: Sequence[Mapping[str, float]], true: np.ndarray) -> bool:
    """Whether the negated question helps this model: both questions together tell true claims better than one alone."""
    both = [i for i, one in enumerate(evidence) if {"yes_without", "no_without"} <= one.keys()]
    if len(both) < _OWN_FROM:
        return False
    sign = np.array([evidence[i].get("polarity", 1.0) for i in both])
    plain, negated = (sign * np.array([seen(evidence[i], word) for i in both]) for word in ("yes", "no"))
    labels = np.asarray(true)[both]
    return measures.auroc(plain - negated, labels) > measures.auroc(plain, labels)


def fitted(
    evidence: Sequence[Mapping[str, float]],
    kinds: Sequence[str],
    true: np.ndarray,
    *,
    names: Sequence[str] = _CANDIDATES,
    negation: bool | None = None,
) -> Fusion:
    """The fusion learned from claims with known truth. negation: None finds out whether the model hears it.

    Raises ValueError when all claims are true, or none is.
    """
    true = np.asarray(true, np.float64)
    heard = hears_negation(evidence, true) if negation is None else negation
    rows = [figures(one, negation=heard) for one in evidence]
    groups = {EVERY: _both(rows, true, names)}
    for kind in sorted(set(kinds)):
        mine = np.array([one == kind for one in kinds])
        few = min(true[mine].sum(), (1 - true[mine]).sum())
        if len(set(kinds)) > 1 and mine.sum() >= _OWN_FROM and few >= _OWN_EACH:
            groups[kind] = _both([row for row, own in zip(rows, mine, strict=True) if own], true[mine], names)
    return Fusion(groups, negation=heard)


def _both(rows: Sequence[Mapping[str, float]], true: np.ndarray, names: Sequence[str]) -> Readings:
    words = [name for name in names if name not in ASKED]
    return Readings(_fit(rows, true, names), _fit(rows, true, words) if words and len(words) < len(names) else None)


def _fit(rows: Sequence[Mapping[str, float]], true: np.ndarray, names: Sequence[str]) -> Reading:
    features, columns = [], []
    for name in names:
        there = np.array([name in row for row in rows])
        values = np.array([row.get(name, 0.0) for row in rows])
        if not there.any():
            continue
        low, high = np.quantile(values[there], (_TAIL, 1 - _TAIL))
        values = np.clip(values, low, high)
        mean, scale = values[there].mean(), values[there].std()
        if scale > 1e-9 * (1 + abs(mean)):
            features.append((name, float(mean), float(scale), float(low), float(high), bool(there.all())))
            columns.append(np.where(there, (values - mean) / scale, 0.0))
            if not there.all():
                columns.append(1.0 - there)
    weights, bias = fit_logistic(np.column_stack(columns) if columns else np.empty((len(true), 0)), true, _L2)
    taken = iter(weights.tolist())
    known = tuple(
        Feature(name, next(taken), mean, scale, low, high, None if always else next(taken))
        for name, mean, scale, low, high, always in features
    )
    plain = Reading(known, bias, None, len(rows))
    if len(rows) < STRAIGHTENED_FROM:
        return plain
    return Reading(known, bias, isotonic(np.array([plain.logit(row) for row in rows]), true), len(rows))
