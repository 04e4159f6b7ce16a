"""How well claims are told true from false, by which evidence, and whether promised error rates hold: on held-out scenes.

    python benchmarks/calibration.py BUNDLE... --out runs/calibration --images 600

Each bundle describes the scenes and answers two questions of existence about each; every claim's truth is known exactly.
Its evidence is kept as it comes (a stopped run goes on), all else is arithmetic:

AUROC of claim correctness, for the mean log-probability of a claim's tokens as it is, for all that the tokens tell, with
grounding, with verification, fused, and with the model's own verdict; all but the first are fitted on half of the scenes and
measured on the other half, both ways round. Intervals are bootstraps over scenes, the same
draws for all, so differences are paired.

Promises: the fusion is fitted on a third of the scenes; from the rest, 500 times, scenes are drawn to choose a rule on. A
promise with probability 1 - delta is broken when the rule's risk on all of the rest, which is the population that was drawn
from, exceeds alpha. A promise on average is tried on one scene that was not drawn, and on all of those.

Bundles named NAME-SEED-PROFILE are told together over their seeds. Results: benchmarks/results/calibration.json, where
bundles that were measured before on as many scenes stay.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import mean, stdev

import numpy as np

from edgereverie import measures, stages
from edgereverie.bundle import write_text
from edgereverie.data.labelled import Labelled, read_labelled
from edgereverie.records import Answer, Turn
from edgereverie.runtime.calibration import conformal, selective
from edgereverie.runtime.calibration.fusing import fitted, hears_negation
from edgereverie.runtime.calibration.learning import Known, learn
from edgereverie.runtime.calibration.rules import thresholds_to_walk
from edgereverie.runtime.calibration.tails import rate_at_least, rate_at_most
from edgereverie.runtime.fusion import Fusion
from edgereverie.runtime.guards.reflect import judged
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Request
from edgereverie.stages.calibrating import OPTIONS, ask, judge

SEED, SPLITS, DELTA = 900, 500, 0.1
ALPHAS = (0.05, 0.1)
_TOKENS = ("log_prob_mean", "log_prob_min", "margin_min", "polarity", "log_length")
_GROUNDING = ("grounding", "grounding_min")
_VERIFICATION = ("verification", "asked", "thing_verification", "thing_asked")
_FUSION = (*_TOKENS, *_GROUNDING, *_VERIFICATION, "times", "nth")
RAW, FITTED = "token probability", "token figures, fitted"
BASES = (RAW, FITTED)
ARMS = {
    FITTED: _TOKENS,
    "+ grounding": (*_TOKENS, *_GROUNDING),
    "+ verification": (*_TOKENS, *_VERIFICATION),
    "fusion": _FUSION,
    "fusion + reflection": (*_FUSION, "reflection"),
}
RESULTS = Path(__file__).parent / "results" / "calibration.json"


@dataclass(frozen=True)
class Table:
    """Every claim whose truth is known: its picture, kind, evidence and truth."""

    image: np.ndarray
    kind: np.ndarray
    evidence: list[Mapping[str, float]]
    true: np.ndarray

    @classmethod
    def of(cls, known: Sequence[Known]) -> Table:
        rows = [
            (answer.image, claim.kind, claim.evidence, true)
            for answer in known
            for claim, true in zip(answer.claims, answer.true, strict=True)
            if true is not None
        ]
        image, kind, evidence, true = zip(*rows, strict=True)
        return cls(np.array(image), np.array(kind), list(evidence), np.array(true, int))

    def fit(self, rows: np.ndarray, names: Sequence[str], negation: bool) -> Fusion:
        some = np.flatnonzero(rows)
        evidence, kinds = [self.evidence[i] for i in some], [str(self.kind[i]) for i in some]
        return fitted(evidence, kinds, self.true[some], names=names, negation=negation)


def separation(table: Table) -> dict[str, object]:
    """AUROC with its interval for every arm, over all claims and by kind, and each arm's gain over token probability."""
    pictures = sorted(set(table.image))
    Random(0).shuffle(pictures)
    first = np.isin(table.image, pictures[: len(pictures) // 2])
    measured = {name for row in table.evidence for name in row}
    arms = {arm: names for arm, names in ARMS.items() if "reflection" not in arm or "reflection" in measured}
    scores = {arm: np.empty(len(table.true)) for arm in arms}
    heard = []
    for rows in (first, ~first):
        fit_on = np.flatnonzero(rows)
        negation = hears_negation([table.evidence[i] for i in fit_on], table.true[fit_on])
        heard.append(negation)
        for arm, names in arms.items():
            fusion = table.fit(rows, names, negation)
            for i in np.flatnonzero(~rows):
                scores[arm][i] = fusion.support(table.evidence[i], table.kind[i])
    scores = {RAW: np.array([row.get("log_prob_mean", 0.0) for row in table.evidence])} | scores
    told: dict[str, object] = {"negation_heard": heard}
    groups = {"every": np.ones(len(table.true), bool)} | {kind: table.kind == kind for kind in sorted(set(table.kind))}
    for group, rows in groups.items():
        told[group] = _separated({arm: one[rows] for arm, one in scores.items()}, table.true[rows], table.image[rows])
    fused = scores["fusion"]
    told["fusion"] = {
        "ece15": measures.ece(fused, table.true),
        "brier": measures.brier(fused, table.true),
        "aurc": measures.aurc(fused, table.true),
        **{f"coverage_at_{alpha}": measures.coverage_at_risk(fused, table.true, alpha) for alpha in ALPHAS},
    }
    return told


def _separated(scores: Mapping[str, np.ndarray], true: np.ndarray, image: np.ndarray) -> dict[str, object]:
    told: dict[str, object] = {"claims": len(true), "false": int((1 - true).sum()), "pictures": len(set(image))}
    if not 0 < told["false"] < len(true):
        return told
    draws = measures.resampled_auroc(list(scores.values()), true, image)
    values = {arm: measures.auroc(one, true) for arm, one in scores.items()}
    columns = dict(zip(scores, draws.T, strict=True))
    for arm, value in values.items():
        gains = {
            f"over {base}": [value - values[base], *measures.interval(columns[arm] - columns[base])] for base in BASES
        }
        told[arm] = {"auroc": [value, *measures.interval(columns[arm])], **gains}
    return told


@dataclass(frozen=True)
class One:
    """The one answer of a kind that stands for its picture."""

    score: float
    right: int
    claims: conformal.Claims


def promises(known: Sequence[Known]) -> dict[str, object]:
    """Every rule at every alpha, over SPLITS draws."""
    table = Table.of(known)
    pictures = sorted(set(table.image))
    Random(1).shuffle(pictures)
    fit_on = set(pictures[: len(pictures) // 3])
    learned = np.isin(table.image, list(fit_on))
    evidence = [table.evidence[i] for i in np.flatnonzero(learned)]
    negation = hears_negation(evidence, table.true[learned])
    fusion = table.fit(learned, ARMS["fusion"], negation)
    told: dict[str, object] = {}
    for kind, rules in {"closed": (_selective, _sgr, _set), "open": (_filter, _share)}.items():
        grid = thresholds_to_walk(np.array([one.score for one in _ones(known, kind, fusion, fit_on, inside=True)]))
        pool = _ones(known, kind, fusion, fit_on, inside=False)
        for rule in rules:
            for alpha in ALPHAS:
                told[f"{rule.__name__.strip('_')}, {kind}, alpha {alpha}"] = rule(pool, grid, alpha)
    return told


def _ones(known: Sequence[Known], kind: str, fusion: Fusion, fit_on: set[str], *, inside: bool) -> list[One]:
    rng, by_image = Random(2), {}
    for answer in known:
        if answer.kind == kind and (answer.image in fit_on) == inside and None not in answer.true:
            by_image.setdefault(answer.image, []).append(answer)
    found = []
    for several in by_image.values():
        answer = rng.choice(several)
        support = np.array([fusion.support(claim.evidence, claim.kind) for claim in answer.claims])
        true = np.array(answer.true, bool)
        found.append(One(float(support.min()), int(true.all()), (support, true)))
    return found


def _selective(pool: Sequence[One], grid: np.ndarray, alpha: float) -> dict[str, object]:
    least = selective.items_needed(alpha, DELTA, errors=3)
    return _with_probability(
        pool,
        alpha,
        lambda s, r: selective.fixed_sequence(s, r, alpha, DELTA, thresholds=grid, least=min(least, len(s) // 3)),
    )


def _sgr(pool: Sequence[One], _: np.ndarray, alpha: float) -> dict[str, object]:
    return _with_probability(pool, alpha, lambda s, r: selective.sgr(s, r, alpha, DELTA))


def _with_probability(pool: Sequence[One], alpha: float, rule: Callable) -> dict[str, object]:
    """How often the rule's risk on the pool exceeds alpha, when it is chosen on as many independent draws from it."""
    scores, right = np.array([one.score for one in pool]), np.array([one.right for one in pool])
    rng, risks, coverages = np.random.default_rng(3), [], []
    for _ in range(SPLITS):
        drawn = rng.integers(0, len(pool), len(pool))
        found = rule(scores[drawn], right[drawn])
        if found is not None:
            answered = scores >= found.threshold
            risks.append(float(1 - right[answered].mean()) if answered.any() else 0.0)
            coverages.append(float(answered.mean()))
    broken = sum(risk > alpha for risk in risks)
    return {"pictures": len(pool), "base_risk": float(1 - right.mean()), "found": len(risks), "promised": DELTA,
            "mean_risk": _mean(risks), "coverage": _mean(coverages), **_share_of(broken, SPLITS)}  # fmt: skip


def _set(pool: Sequence[One], _: np.ndarray, alpha: float) -> dict[str, object]:
    truth = np.array([one.score if one.right else 1 - one.score for one in pool])

    def losses(drawn: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, float]:
        cut = conformal.set_threshold(truth[drawn], alpha)
        single = (1 - truth[rest] <= cut) != (truth[rest] <= cut)
        return (1 - truth[rest] > cut).astype(float), float(single.mean())

    return _on_average(len(pool), alpha, losses)


def _filter(pool: Sequence[One], _: np.ndarray, alpha: float) -> dict[str, object]:
    def losses(drawn: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, float]:
        cut = conformal.claim_filter([pool[i].claims for i in drawn], alpha)
        wrong = [float(np.any((s > cut) & ~t)) for s, t in (pool[i].claims for i in rest)]
        return np.array(wrong), _true_kept(pool, rest, cut)

    return _on_average(len(pool), alpha, losses)


def _share(pool: Sequence[One], _: np.ndarray, alpha: float) -> dict[str, object]:
    def losses(drawn: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, float]:
        cut = conformal.risk_control([pool[i].claims for i in drawn], alpha)
        return conformal.false_share([pool[i].claims for i in rest], cut), _true_kept(pool, rest, cut)

    return _on_average(len(pool), alpha, losses)


def _true_kept(pool: Sequence[One], rest: np.ndarray, cut: float) -> float:
    support, true = (np.concatenate(part) for part in zip(*(pool[i].claims for i in rest), strict=True))
    return float((support[true] > cut).mean())


def _on_average(n: int, alpha: float, losses: Callable) -> dict[str, object]:
    """The mean loss over halves that were not drawn, with its spread over halves, and the loss of one picture in each."""
    rng, means, ones, kept = np.random.default_rng(3), [], [], []
    for _ in range(SPLITS):
        order = rng.permutation(n)
        lost, share = losses(order[: n // 2], order[n // 2 :])
        means.append(float(lost.mean()))
        ones.append(float(lost[0]))
        kept.append(share)
    told = {"pictures": n, "promised": alpha, "mean_loss": mean(means), "coverage": mean(kept)}
    if set(ones) <= {0.0, 1.0}:
        return told | _share_of(int(sum(ones)), SPLITS)
    error = stdev(ones) / math.sqrt(SPLITS)
    return told | {"rate": mean(ones), "low": mean(ones) - 1.96 * error, "high": mean(ones) + 1.96 * error}


def _share_of(count: int, n: int) -> dict[str, object]:
    """With its exact two-sided 95 % interval."""
    return {
        "broken": count,
        "rate": count / n,
        "low": rate_at_least(count, n, 0.025),
        "high": rate_at_most(count, n, 0.025),
    }


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def gather(bundle: Path, out: Path, images: int) -> tuple[list[Known], dict[str, object]]:
    """The bundle's answers with the truth of their claims, and in figures what was asked."""
    data = out / f"scenes-{SEED}-{images}"
    if not data.is_dir():
        stages.draw_scenes(data, train=0, heldout=images, seed=SEED, companion_share=0.7)
    questions = read_labelled(data, data / "images", images=None, seed=SEED)
    with stages.open_model(str(bundle)) as model:
        answers = ask(model, questions, data / "images", guard="none", work=out)
        verdicts = reflections(
            model, questions, answers, data / "images", out / f"{bundle.name}-{images}-verdicts.json"
        )
        backend, artefact = model.engine.backend, stages.artefact(model)
    answers = {id: with_verdict(answer, verdicts.get(id)) for id, answer in answers.items()}
    known, left_out = judge(questions, answers)
    told = {"backend": backend, "artefact": artefact, "pictures": images, "questions": len(questions),
            "left_out": left_out, "seconds": sum(answer.seconds for answer in answers.values())}  # fmt: skip
    return known, told


def reflections(
    model: Model, questions: Sequence[Labelled], answers: Mapping[str, Answer], root: Path, path: Path
) -> dict[str, float]:
    """What the picture adds to the model's own verdict on each of its answers, nats; kept in a file as they come."""
    found: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    missing = [one for one in questions if one.id not in found and answers[one.id].claims]
    for number, one in enumerate(missing, 1):
        request = Request(model, root / one.image, (Turn("user", one.question),), OPTIONS)
        found[one.id] = judged(request, answers[one.id].text).gain
        if number % 300 == 0 or number == len(missing):
            write_text(path, json.dumps(found))
    return found


def with_verdict(answer: Answer, verdict: float | None) -> Answer:
    if verdict is None:
        return answer
    told = tuple(replace(claim, evidence={**claim.evidence, "reflection": verdict}) for claim in answer.claims)
    return replace(answer, claims=told)


def measure(bundle: Path, out: Path, images: int) -> dict[str, object]:
    known, told = gather(bundle, out, images)
    told |= {"separation": separation(Table.of(known)), "promises": promises(known)}
    learned = learn(known, alpha=0.1, delta=DELTA, seed=0)
    return told | {"calibration": {"report": learned.report, "rules": [rule.words for rule in learned.rules]}}


def table(found: Mapping[str, dict]) -> str:
    """Markdown: AUROC by arm, seeds together."""
    arms = [arm for arm in (RAW, *ARMS) if any(arm in one["separation"]["every"] for one in found.values())]
    headings = ["", "claims", "false", *arms, *(f"fusion over {base}" for base in BASES)]
    rows = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for title, several in _by_family(found).items():
        every = [one["separation"]["every"] for one in several]
        counts = [f"{sum(one[name] for one in every):,}" for name in ("claims", "false")]
        cells = [_over_seeds([one[arm]["auroc"] for one in every if arm in one]) for arm in arms]
        gains = [_over_seeds([one["fusion"][f"over {base}"] for one in every]) for base in BASES]
        rows.append("| " + " | ".join([title, *counts, *cells, *gains]) + " |")
    return "\n".join(rows)


def _by_family(found: Mapping[str, dict]) -> dict[str, list[dict]]:
    families: dict[str, list[dict]] = {}
    for name, one in found.items():
        families.setdefault(re.sub(r"-\d+(?=-)", "", name, count=1), []).append(one)
    return families


def _over_seeds(values: Sequence[Sequence[float]]) -> str:
    if len(values) == 1:
        value, low, high = values[0]
        return f"{value:.3f} ({low:.3f} to {high:.3f})"
    return f"{mean(one[0] for one in values):.3f} ± {stdev(one[0] for one in values):.3f}" if values else ""


def kept(found: Mapping[str, dict]) -> str:
    """Markdown: every promise, how often it was broken over all bundles, and the most over one."""
    rows = ["| rule | promised | broken, all bundles | worst bundle | coverage |", "|---|---|---|---|---|"]
    for rule in next(iter(found.values()))["promises"]:
        each = [one["promises"][rule] for one in found.values()]
        worst = max(each, key=lambda one: one["rate"])
        covered = [one["coverage"] or 0.0 for one in each]
        rows.append(
            f"| {rule} | {each[0]['promised']} | {mean(one['rate'] for one in each):.3f} | {worst['rate']:.3f} "
            f"({worst['low']:.3f} to {worst['high']:.3f}) | {mean(covered):.2f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--images", type=int, default=600)
    chosen = parser.parse_args()
    found: dict[str, dict] = json.loads(RESULTS.read_text())["bundles"] if RESULTS.is_file() else {}
    found = {name: one for name, one in found.items() if one["pictures"] == chosen.images}
    for bundle in chosen.bundles:
        found[bundle.name] = measure(bundle, chosen.out, chosen.images)
        told = {"seed": SEED, "splits": SPLITS, "delta": DELTA, "versions": stages.versions(), "bundles": found}
        write_text(RESULTS, json.dumps(told, indent=1) + "\n")
    print(table(found))
    print()
    print(kept(found))


if __name__ == "__main__":
    main()
