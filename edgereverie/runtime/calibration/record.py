"""What was calibrated, on what, and for which artefact it holds: the record that a bundle's manifest carries."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import Bundle
from edgereverie.chat import render
from edgereverie.errors import BackendError, BundleError
from edgereverie.records import Turn, as_json
from edgereverie.runtime.calibration.rules import AnswerKind, Rule, RuleName
from edgereverie.runtime.fusion import Fusion

if TYPE_CHECKING:
    from edgereverie.runtime.model import Model

VERSION = 1
SHOWN = 12  # of an artefact's fingerprint
SILENT = frozenset({"none", "flag", "abstain"})  # guards that leave an answer's words to the model
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fusion and the rules of one artefact: model, quantization, backend and prompt together.

    artefact: the bundle's fingerprint. backend: who computes. prompt: hash of the chat format and of how claims are asked
    about. data: in words, what the pictures and questions were; a promise holds for others like these. images, claims: by
    split, ``fit``, ``choose`` and ``report``; no picture is in two. guards: those that decide what an answer says; silent
    ones left out. lacking: rules that the data did not bear, and why. report: figures on the third split, by name.
    """

    artefact: str
    backend: str
    prompt: str
    data: str
    images: Mapping[str, int]
    claims: Mapping[str, int]
    fusion: Fusion
    rules: tuple[Rule, ...] = ()
    lacking: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    seed: int = 0
    report: Mapping[str, float] = field(default_factory=dict)

    def rule(self, name: RuleName, kind: AnswerKind) -> Rule | None:
        return next((rule for rule in self.rules if (rule.name, rule.answers) == (name, kind)), None)

    def words(self, rule: Rule) -> str:
        """The promise with what it holds for: ``..., n = 1200, artefact 3fa2c81b09de``."""
        return f"{rule.words}, artefact {self.artefact[:SHOWN]}"

    def differences(self, model: Model) -> list[str]:
        """What sets the loaded model apart from the one that was calibrated, a sentence each."""
        mine = identity(model)
        return [
            f"the {name} is {_short(mine[name])}, calibrated was {_short(getattr(self, name))}"
            for name in ("artefact", "backend", "prompt")
            if mine[name] != getattr(self, name)
        ]

    def as_json(self) -> dict[str, Any]:
        return {"version": VERSION} | as_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """What ``as_json`` gave. Raises BundleError with what is wrong."""
        if data.get("version") != VERSION:
            raise BundleError(
                f"The calibration is of version {data.get('version')!r}; this version reads {VERSION}.",
                hint="Calibrate again: edgereverie calibrate",
            )
        try:
            told = {key: value for key, value in data.items() if key != "version"}
            read = cls(**told | {
                "fusion": Fusion.from_json(told["fusion"]),
                "rules": tuple(Rule.from_json(rule) for rule in told["rules"]),
                "lacking": tuple(map(str, told["lacking"])),
                "guards": tuple(map(str, told["guards"])),
                "report": {str(key): float(value) for key, value in told["report"].items()},
                **{key: {str(k): int(v) for k, v in told[key].items()} for key in ("images", "claims")},
            })  # fmt: skip
            if not all(isinstance(getattr(read, key), str) for key in ("artefact", "backend", "prompt", "data")):
                raise TypeError("a text")
            return read
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"The calibration lacks or misspells {error}.", hint="Calibrate again: edgereverie calibrate"
            ) from None


def identity(model: Model) -> dict[str, str]:
    """What a calibration belongs to: the artefact's fingerprint, the backend, and the prompt's hash."""
    bundle = model.bundle
    if bundle is None:
        raise BackendError(
            f"{model.name}: only an exported bundle can be calibrated.",
            hint="edgereverie export MODEL --profile gguf-q8-0, then calibrate the bundle.",
        )
    return {"artefact": bundle.fingerprint(), "backend": model.engine.backend, "prompt": prompt_of(model)}


def prompt_of(model: Model) -> str:
    """A hash of how questions reach the model: the chat format, and the wording in which claims are asked about."""
    from edgereverie.runtime.evidence import wording

    written = [
        [piece for piece, _ in render(model.chat, [Turn("user", question)], image=image)]
        for question in ("Describe the image.", *wording())
        for image in (True, False)
    ]
    return hashlib.sha256(json.dumps([model.chat.name, written]).encode()).hexdigest()[:16]


def fitting(model: Model) -> Calibration | None:
    """The bundle's calibration where it is this model's; where it is another's, a warning tells what differs, once."""
    if model.bundle is None or model.bundle.calibration is None:
        return None
    read = Calibration.from_json(model.bundle.calibration)
    if differing := read.differences(model):
        _warn(model.name, "; ".join(differing))
        return None
    return read


def required(model: Model) -> Calibration:
    """The model's calibration. Raises BackendError that tells what differs, or that there is none, and the command for one."""
    if model.calibration is not None:
        return model.calibration
    folder = model.bundle.folder if model.bundle is not None else "BUNDLE"
    hint = f"Calibrate it: edgereverie calibrate {folder} --data FOLDER --backend {model.engine.backend}"
    stored = None if model.bundle is None else model.bundle.calibration
    if stored is None:
        raise BackendError(f"{model.name} was not calibrated, so no error rate can be promised.", hint=hint)
    differing = Calibration.from_json(stored).differences(model)
    raise BackendError(f"{model.name}: its calibration is another's: {'; '.join(differing)}.", hint=hint)


def store(bundle: Bundle, calibration: Calibration) -> Bundle:
    """The bundle with this calibration in its manifest, written at once or not at all.

    Raises BundleError when it was made for another artefact, or the bundle was changed since it was exported.
    """
    bundle.check()
    if calibration.artefact != bundle.fingerprint():
        raise BundleError(
            f"{bundle.folder}: the calibration is for artefact {calibration.artefact[:SHOWN]}, this is "
            f"{bundle.fingerprint()[:SHOWN]}.",
            hint=f"Calibrate anew: edgereverie calibrate {bundle.folder} --data FOLDER",
        )
    told = calibration.as_json()
    if not all(math.isfinite(value) for value in calibration.report.values()):
        raise BundleError("The calibration's report holds figures that are not numbers.")
    calibrated = replace(bundle, calibration=told)
    calibrated.write()
    return calibrated


def _short(value: str) -> str:
    return value[:SHOWN] if len(value) > SHOWN else value


@lru_cache(maxsize=64)
def _warn(name: str, differing: str) -> None:
    _log.warning(
        "%s: its calibration is not used: %s. Calibrate anew for what is loaded: edgereverie calibrate.",
        name,
        differing,
    )
