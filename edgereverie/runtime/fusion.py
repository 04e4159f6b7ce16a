"""Evidence to probability: what was measured about a claim becomes one number, and that number a verdict.

Without calibration it is a plain reading of log-odds, set by hand; ``calibration.fusing`` learns one for an artefact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgereverie.errors import BundleError
from edgereverie.records import ClaimKind, Verdict, as_json
from edgereverie.runtime.calibration.scaling import Steps, logistic

if TYPE_CHECKING:
    from edgereverie.runtime.request import Request

EVERY = "every"  # the group of all kinds of claims
# Figures that short questions give.
ASKED = frozenset(("verification", "asked", "thing_verification", "thing_asked"))


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


@dataclass(frozen=True, slots=True)
class Readings:
    """full: of all that can be measured. words: of the answer's words alone, for claims that were not asked about."""

    full: Reading
    words: Reading | None = None


# Set by hand, on descriptions and answers of the shipped starter and of models tuned from it: the words' own probability weighs
# so much that few true claims are called contradicted where nothing was calibrated (at most 2 in 100 of those in descriptions
# there, 4 of a yes or no). Grounding is clipped: a single rare word piece can be worth more than that, and common words that any
# text would predict are worth little although they are true. Of a claim whose words were not measured nothing is thought
# beforehand.
PLAIN = Reading(
    (
        Feature("verification", 0.5),
        Feature("grounding", 1.0, low=-4.0, high=4.0),
        Feature("log_prob_mean", 4.0, missing=-1.0),
    ),
    bias=1.0,
)


@dataclass(frozen=True, slots=True)
class Fusion:
    """How evidence becomes support, by kind of claim, and support a verdict.

    groups: by claim kind, EVERY for those without one of their own. full: of claims about which everything was measured;
    words: of those that were not asked about. supported, contradicted: where verdicts begin. negation: whether "is it true
    that there is no ...?" is asked, too, which small models often do not understand.
    """

    groups: Mapping[str, Readings] = field(default_factory=lambda: {EVERY: Readings(PLAIN)})
    supported: float = 0.7
    contradicted: float = 0.3
    negation: bool = False

    def readings(self, kind: ClaimKind = "object") -> Readings:
        return self.groups.get(kind) or self.groups[EVERY]

    def support(self, evidence: Mapping[str, float], kind: ClaimKind = "object") -> float:
        """In (0, 1), how strongly the picture speaks for the claim."""
        known, readings = figures(evidence, negation=self.negation), self.readings(kind)
        alone = readings.words is not None and not known.keys() & ASKED
        return (readings.words if alone else readings.full).probability(known)

    def verdict(self, support: float) -> Verdict:
        if support >= self.supported:
            return "supported"
        return "contradicted" if support <= self.contradicted else "unverified"

    def lacks(self, evidence: Mapping[str, float], kind: ClaimKind = "object") -> tuple[str, ...]:
        """What calibration always knew of a claim and is not known of this one: no rule holds for it then."""
        return self.readings(kind).full.lacks(figures(evidence, negation=self.negation))

    def as_json(self) -> dict[str, Any]:
        return as_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fusion:
        """What ``as_json`` gave. Raises BundleError when it is anything else."""
        try:
            groups = {
                str(kind): Readings(_reading(told["full"]), None if told["words"] is None else _reading(told["words"]))
                for kind, told in data["groups"].items()
            }
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

    asked, thing_asked: log-odds of yes to the short questions with the picture, nothing cancelled. verification,
    thing_verification: as the evidence has them, but without the negated questions where those are not to be heard.
    log_length: of the claim's tokens.

    >>> told = {"polarity": -1.0, "yes_with_image": -3.0, "yes_without": -1.0, "verification": 2.0}
    >>> figures(told, negation=False)
    {'polarity': -1.0, 'verification': 2.0, 'asked': 3.0}
    """
    found = {name: float(value) for name, value in evidence.items() if name.removeprefix("thing_") not in _RAW}
    sign = evidence.get("polarity", 1.0)
    for of in ("", "thing_"):
        if f"{of}yes_with_image" in evidence:
            found[f"{of}asked"] = (1.0 if of else sign) * evidence[f"{of}yes_with_image"]
    if "no_with_image" in evidence and not negation:
        found["verification"] = sign * seen(evidence, "yes")
        if "thing_yes_with_image" in evidence:
            found["thing_verification"] = seen(evidence, "thing_yes")
            found["verification"] = min(found["verification"], found["thing_verification"])
    if "length" in evidence:
        found["log_length"] = math.log1p(evidence["length"])
    return found


_RAW = ("yes_with_image", "yes_without", "no_with_image", "no_without", "length")


def seen(evidence: Mapping[str, float], answer: str) -> float:
    """What the picture adds to the odds of an answer."""
    return evidence[f"{answer}_with_image"] - evidence[f"{answer}_without"]


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
