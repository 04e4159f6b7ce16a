"""Evidence to probability: what was measured about a claim becomes one number, and that number a verdict.

Without calibration it is a plain reading of log-odds, fitted to nothing. ``fitted`` learns one for an artefact: features are
standardised, weighed by a logistic regression and, where claims abound, straightened by an isotonic map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgereverie.errors import BundleError
from edgereverie.records import ClaimKind, Verdict, as_json
from edgereverie.runtime.calibration import measures
from edgereverie.runtime.calibration.scaling import Steps, fit_logistic, isotonic, logistic

if TYPE_CHECKING:
    from edgereverie.runtime.request import Request

EVERY = "every"  # the group of all kinds of claims
STRAIGHTENED_FROM = 1000  # claims of a group that an isotonic map takes
_OWN_FROM, _OWN_EACH = 300, 30  # claims, and of the rarer label, that a kind of claim needs for weights of its own
_L2 = 1.0
_TAIL = 0.005  # of a feature's values on either side are pulled in to the rest
_CANDIDATES = (
    "log_prob_mean", "log_prob_min", "margin_min", "grounding", "grounding_min", "verification", "asked", "polarity",
    "log_length", "reflection", "agreement",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Feature:
    """One figure's part in the log-odds: ``weight * (clipped value - mean) / scale``, or ``missing`` where it was not measured.

    low, high: values beyond are taken for these. A figure that is not there counts as the mean of those that are, plus
    ``missing``, which was learned from claims without it; None where calibration never saw one without it.
    """

    name: str
    weight: float
    mean: float = 0.0
    scale: float = 1.0
    low: float = -1e9
    high: float = 1e9
    missing: float | None = 0.0

    def part(self, value: float | None) -> float:
        if value is None:
            return self.missing or 0.0
        return self.weight * (min(max(value, self.low), self.high) - self.mean) / self.scale


@dataclass(frozen=True, slots=True)
class Reading:
    """The log-odds of one group of claims: its features' parts and ``bias``; straight: the isotonic map of log-odds to
    probability, if any. n: claims it was fitted to.
    """

    features: tuple[Feature, ...]
    bias: float = 0.0
    straight: Steps | None = None
    n: int = 0

    def logit(self, figures: Mapping[str, float]) -> float:
        return self.bias + sum(feature.part(figures.get(feature.name)) for feature in self.features)

    def probability(self, figures: Mapping[str, float]) -> float:
        """In (0, 1): an isotonic map of n claims is never surer than one error in n + 2."""
        logit = self.logit(figures)
        if self.straight is None:
            return float(logistic(logit))
        return float(np.clip(self.straight(logit), 1 / (self.n + 2), 1 - 1 / (self.n + 2)))

    def lacks(self, figures: Mapping[str, float]) -> tuple[str, ...]:
        """Figures that every claim had when this was fitted, and that this one has not."""
        return tuple(one.name for one in self.features if one.missing is None and one.name not in figures)


# Grounding is clipped: a single rare word piece can be worth more, and common words that any text would predict are worth
# little although they are true, so it may tip the scales but not outweigh the question.
PLAIN = Reading((Feature("verification", 1.0), Feature("grounding", 0.25, low=-2.0, high=2.0)))


@dataclass(frozen=True, slots=True)
class Fusion:
    """How evidence becomes support, by kind of claim, and support a verdict.

    groups: by claim kind, EVERY for those without one of their own. supported, contradicted: where verdicts begin.
    negation: whether "is it true that there is no ...?" is asked, too, which small models often do not understand.
    """

    groups: Mapping[str, Reading] = field(default_factory=lambda: {EVERY: PLAIN})
    supported: float = 0.7
    contradicted: float = 0.3
    negation: bool = False

    def reading(self, kind: ClaimKind = "object") -> Reading:
        return self.groups.get(kind) or self.groups[EVERY]

    def support(self, evidence: Mapping[str, float], kind: ClaimKind = "object") -> float:
        """In (0, 1), how strongly the picture speaks for the claim."""
        return self.reading(kind).probability(figures(evidence, negation=self.negation))

    def verdict(self, support: float) -> Verdict:
        if support >= self.supported:
            return "supported"
        return "contradicted" if support <= self.contradicted else "unverified"

    def lacks(self, evidence: Mapping[str, float], kind: ClaimKind = "object") -> tuple[str, ...]:
        """What calibration always knew of a claim and is not known of this one: no rule holds for it then."""
        return self.reading(kind).lacks(figures(evidence, negation=self.negation))

    def as_json(self) -> dict[str, Any]:
        return as_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fusion:
        """What ``as_json`` gave. Raises BundleError when it is anything else."""
        try:
            groups = {str(kind): _reading(told) for kind, told in data["groups"].items()}
            numbers = {key: float(data[key]) for key in ("supported", "contradicted")}
            if (
                EVERY not in groups
                or not all(map(math.isfinite, numbers.values()))
                or type(data["negation"]) is not bool
            ):
                raise ValueError("a group, a number or 'negation'")
            return cls(groups, **numbers, negation=data["negation"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"The calibration's fusion lacks or misspells {error}.", hint="Calibrate again: edgereverie calibrate"
            ) from None


def fusion_of(request: Request) -> Fusion:
    """The fusion that was calibrated for the model that is asked, or the plain reading of log-odds."""
    calibration = getattr(request.model, "calibration", None)
    return calibration.fusion if calibration else Fusion()


def figures(evidence: Mapping[str, float], *, negation: bool) -> dict[str, float]:
    """The evidence as features: its own figures, signed so that positive speaks for the claim, and those made of them.

    asked: log-odds of yes to the short question with the picture, nothing cancelled. verification: as the evidence has it,
    but of the one question alone where the negated one is not to be heard. log_length: of the claim's tokens.

    >>> told = {"polarity": -1.0, "yes_with_image": -3.0, "yes_without": -1.0, "verification": 2.0}
    >>> figures(told, negation=False)
    {'polarity': -1.0, 'verification': 2.0, 'asked': 3.0}
    """
    found = {name: float(value) for name, value in evidence.items() if name not in _RAW}
    sign = evidence.get("polarity", 1.0)
    if "yes_with_image" in evidence:
        found["asked"] = sign * evidence["yes_with_image"]
        if "no_with_image" in evidence and not negation and "yes_without" in evidence:
            found["verification"] = sign * (evidence["yes_with_image"] - evidence["yes_without"])
    if "length" in evidence:
        found["log_length"] = math.log1p(evidence["length"])
    return found


_RAW = ("yes_with_image", "yes_without", "no_with_image", "no_without", "length")


def hears_negation(evidence: Sequence[Mapping[str, float]], true: np.ndarray) -> bool:
    """Whether the negated question helps this model: both questions together tell true claims better than one alone."""
    both = [i for i, one in enumerate(evidence) if {"yes_without", "no_without"} <= one.keys()]
    if len(both) < _OWN_FROM:
        return False
    sign = np.array([evidence[i].get("polarity", 1.0) for i in both])
    plain, negated = (
        sign * np.array([evidence[i][f"{word}_with_image"] - evidence[i][f"{word}_without"] for i in both])
        for word in ("yes", "no")
    )
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
    groups = {EVERY: _fit(rows, true, names)}
    for kind in sorted(set(kinds)):
        mine = np.array([one == kind for one in kinds])
        few = min(true[mine].sum(), (1 - true[mine]).sum())
        if len(set(kinds)) > 1 and mine.sum() >= _OWN_FROM and few >= _OWN_EACH:
            groups[kind] = _fit([row for row, own in zip(rows, mine, strict=True) if own], true[mine], names)
    return Fusion(groups, negation=heard)


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


def _reading(told: Mapping[str, Any]) -> Reading:
    features = tuple(Feature(**one) for one in told["features"])
    for feature in features:
        numbers = (feature.weight, feature.mean, feature.scale, feature.low, feature.high, feature.missing or 0.0)
        if not all(math.isfinite(number) for number in numbers) or feature.scale <= 0:
            raise ValueError(f"the feature {feature.name!r}")
    straight = told["straight"]
    if straight is not None:
        straight = Steps(tuple(map(float, straight["x"])), tuple(map(float, straight["y"])))
        rising = all(np.all(np.diff(axis) >= 0) for axis in (straight.x, straight.y))
        if len(straight.x) != len(straight.y) or not straight.x or not rising:
            raise ValueError("'straight'")
    return Reading(features, float(told["bias"]), straight, int(told["n"]))
