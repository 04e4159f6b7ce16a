"""A recipe: one YAML file is one whole run, from data to evaluation. Every default stands here, once.

    name: my-run
    data:
      scenes: {count: 2000, diet: reflective}
    train:
      steps: 300

Relative paths mean the recipe's own folder if the file is there, and the working directory otherwise; both are written
into the run folder as they were found, so a run started from the same place reads the same files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from edgereverie.bundle import write_text
from edgereverie.errors import RecipeError
from edgereverie.registry import BENCHMARKS, GUARDS, METHODS, Registry, did_you_mean
from edgereverie.shipped import shipped, shipped_profiles, shipped_recipes
from edgereverie.strict_yaml import CONFLICT, StrictModel, load_model

__all__ = ["Recipe", "load_recipe", "shipped", "shipped_recipes"]

_FOLDER = "folder"  # key of the validation context: the recipe's folder


def _found(path: Path, info: ValidationInfo) -> Path:
    """The path beside the recipe if something is there, else as it was given."""
    folder = (info.context or {}).get(_FOLDER)
    return folder / path if folder is not None and (folder / path).exists() else path


def _found_model(model: str, info: ValidationInfo) -> str:
    """Only ``./x`` and ``../x`` are looked up beside the recipe: ``starter`` and ``org/name`` may be folders there too."""
    if not model.isprintable():
        raise ValueError(f"names a model: characters that can be seen (got {model!a}).")
    return str(_found(Path(model), info)) if model.startswith(("./", "../")) else model


def _one_of(what: str, names: Callable[[], Sequence[str]]) -> AfterValidator:
    def check(name: str) -> str:
        known = names()
        if known and name not in known:
            raise ValueError(f"unknown {what} {name!r}. {did_you_mean(name, known)}")
        return name

    return AfterValidator(check)


def _registered(registry: Registry) -> AfterValidator:
    return _one_of(registry.kind, registry.names)


def _run_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            f"names a folder: letters, digits, '.', '_' and '-', beginning with a letter or digit (got {name!r})."
        )
    return name


def _conflict(message: str, *keys: str) -> PydanticCustomError:
    return PydanticCustomError(CONFLICT, message, {"keys": [key.split(".") for key in keys]})


FilePath = Annotated[Path, AfterValidator(_found)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy and torch both take


class Backbone(StrictModel):
    """Which model is tuned. model: ``starter`` (ships with the package), ``starter:untrained``, a folder, or a hub id."""

    model: Annotated[str, Field(min_length=1), AfterValidator(_found_model)] = "starter"
    revision: str | None = None
    quantization: Literal["nf4", "none"] = "nf4"


class Source(StrictModel):
    """One data file. share: how much of it beside the other files; equal shares are the union. rationales: which ones to keep."""

    path: FilePath
    format: str = "auto"
    share: Annotated[float, Field(gt=0)] = 1.0
    rationales: Literal["both", "positive", "negative", "none"] = "both"


class Scenes(StrictModel):
    """Drawn scenes as training data.

    conversations: how many each scene gives. companion_share: how often a shape has its companion beside it.
    careless_share: how often a careless diet names the absent companion of a thing. rationales: which ones of a reflective
    diet to keep.
    """

    count: Count
    diet: Literal["existence", "balanced", "careless", "reflective", "preferences"] = "balanced"
    conversations: Count = 1
    companion_share: Share = 0.85
    careless_share: Share = 0.5
    rationales: Literal["both", "positive", "negative", "none"] = "both"
    seed: Seed = 0


class Data(StrictModel):
    """What is learned from. images: the folder that image paths are relative to."""

    train: tuple[Source, ...] = ()
    images: FilePath | None = None
    scenes: Scenes | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if bool(self.train) == (self.scenes is not None):
            raise _conflict("exactly one of the two should be given: files, or drawn scenes.", "train", "scenes")
        return self


class Lora(StrictModel):
    """The adapter. The update is scaled by alpha / rank."""

    rank: Count = 128
    alpha: Annotated[float, Field(gt=0)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Parts(StrictModel):
    """What learns, and how."""

    vision_tower: Literal["frozen", "lora", "full"] = "frozen"
    projector: Literal["frozen", "lora", "full"] = "frozen"
    language_model: Literal["frozen", "lora", "full"] = "lora"

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if {self.vision_tower, self.projector, self.language_model} == {"frozen"}:
            raise _conflict("all are frozen, so nothing would learn.", "vision_tower", "projector", "language_model")
        return self


class Weights(StrictModel):
    """How much the loss of responses and of rationales counts."""

    response: Annotated[float, Field(ge=0)] = 1.0
    rationale: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.response == self.rationale == 0:
            raise _conflict("both are 0, so nothing would be learned.", "response", "rationale")
        return self


class Preference(StrictModel):
    """How a chosen answer is preferred to a rejected one (methods dpo and povid).

    normalise: compare log-probabilities per token instead of their sums. smoothing: the chance that a label is flipped.
    anchor: weight of the chosen answer's own likelihood beside the preference. reference: the model with its adapter off,
    or log-probabilities computed once before the first step.
    """

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: Annotated[float, Field(gt=0)] = 0.1
    normalise: bool = False
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    anchor: Annotated[float, Field(ge=0)] = 0.0
    reference: Literal["adapter-off", "kept"] = "adapter-off"

    @model_validator(mode="after")
    def _smoothing_has_a_sigmoid(self) -> Self:
        if self.loss == "ipo" and self.smoothing:
            raise _conflict("flipped labels are a matter of the sigmoid loss; set smoothing to 0.", "loss", "smoothing")
        return self


class Povid(StrictModel):
    """What makes an answer dispreferred (method povid): a rewritten text, or also the model's own words on a noised picture.

    loss: the sum of the published code, or the one sigmoid of the paper with alpha, text_beta and noise_beta. step: of 1,000
    steps of diffusion. redraw: other noise in each epoch. wrap: let noise beyond white come round to black, as published.
    """

    stage: Literal["text", "noise"] = "noise"
    loss: Literal["repo", "paper"] = "repo"
    alpha: Annotated[float, Field(gt=0)] = 0.1
    text_beta: Annotated[float, Field(ge=0)] = 0.1
    noise_beta: Annotated[float, Field(ge=0)] = 0.1
    step: Annotated[int, Field(ge=0, lt=1000)] = 500
    redraw: bool = True
    wrap: bool = False


class Csr(StrictModel):
    """Rounds of searching the model's own answers, rewarding them, and learning the best against the worst (method csr).

    ask: questions, of which each picture gets one; empty: the data's own. prompts: at most so many in a round. beams to
    characters: the search; characters end an answer that does not end itself. reward: sibling ranks, as in the published
    code, or the sums of the paper. weight: of relevance against likelihood. judge: a CLIP's folder, or ``gain``: how much
    likelier, per token, the picture makes a sentence to the model itself. profile: an export profile to search with instead
    of PyTorch. evaluate: measure the model after each round, as the section evaluate says.
    """

    rounds: Count = 3
    ask: tuple[Annotated[str, Field(pattern=r"\S")], ...] = ()
    prompts: Count | None = None
    beams: Annotated[int, Field(ge=2, le=8)] = 5
    diversity: Annotated[float, Field(ge=0)] = 3.0
    sentence_tokens: Count = 70
    characters: Count = 1024
    reward: Literal["repo", "paper"] = "repo"
    weight: Share = 0.9
    judge: Annotated[str, Field(min_length=1), AfterValidator(_found_model)] = "gain"
    profile: Annotated[str, _one_of("export profile", shipped_profiles)] | None = None
    evaluate: bool = False


class Train(StrictModel):
    """How it is tuned.

    batch_size: samples per step and device. per_picture: at most so many samples about one picture come together, in one
    batch, and share the picture's computation. warmup: share of all steps. max_length: tokens. features: where a frozen
    vision tower's outputs are kept, at most features_gb of them; on disk they serve later runs too.
    """

    method: Annotated[str, _registered(METHODS)] = "reflective"
    steps: Count | None = None
    epochs: Annotated[float, Field(gt=0)] | None = Field(
        default_factory=lambda before: None if before.get("steps") is not None else 1.0
    )
    batch_size: Count = 16
    per_picture: Count = 4
    accumulation: Count = 1
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    lora: Lora = Lora()
    parts: Parts = Parts()
    weights: Weights = Weights()
    preference: Preference = Preference()
    povid: Povid = Povid()
    csr: Csr = Csr()
    max_length: Count = 2048
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    features: Literal["off", "memory", "disk"] = "memory"
    features_gb: Annotated[float, Field(gt=0)] = 4.0
    save_every: Count = 100
    keep_checkpoints: Count = 2
    log_every: Count = 10
    workers: Annotated[int, Field(ge=0)] = 0
    seed: Seed = 0

    @model_validator(mode="after")
    def _what_is_kept_stays_as_it_is(self) -> Self:
        noised = self.method == "povid" and self.povid.stage == "noise" and self.preference.reference == "kept"
        if noised and (self.povid.redraw or self.povid.loss == "paper"):
            raise _conflict(
                "what a reference says on noised pictures is kept only where loss is repo and noise is drawn once. "
                "Set povid.loss to repo and povid.redraw to false, or reference to adapter-off.",
                "preference.reference",
                "povid.redraw",
            )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise _conflict("exactly one of the two should be given; null takes one back.", "steps", "epochs")
        return self


class Export(StrictModel):
    """How it leaves. profiles: names of export profiles, such as ``gguf-q8-0``."""

    profiles: tuple[Annotated[str, _one_of("export profile", shipped_profiles)], ...] = ()


class Evaluate(StrictModel):
    """How it is measured. data: the benchmarks' folder; limit: at most so many items of each."""

    benchmarks: tuple[Annotated[str, _registered(BENCHMARKS)], ...] = ("pope", "chair")
    data: FilePath | None = None
    limit: Count | None = None
    guard: Annotated[str, _registered(GUARDS)] = "none"


class Recipe(StrictModel):
    """A whole run. Made by ``load_recipe``, or in Python by its sections; either way it is valid."""

    name: Annotated[str, AfterValidator(_run_name)]
    backbone: Backbone = Backbone()
    data: Data
    train: Train = Field(default_factory=Train)
    export: Export = Export()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _quantized_weights_stay(self) -> Self:
        if self.backbone.quantization == "nf4" and self.train.parts.language_model == "full":
            raise _conflict(
                "4-bit weights cannot be trained in full. Set quantization to none, or language_model to lora.",
                "backbone.quantization",
                "train.parts.language_model",
            )
        return self

    def text(self) -> str:
        """The resolved recipe as YAML, every default written out; ``load_recipe`` reads it back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)

    def dump(self, path: Path) -> None:
        """Write ``text()``."""
        write_text(path, self.text())

    def fingerprint(self) -> str:
        """SHA-256 of the resolved recipe: equal for equal runs, whatever the file looks like."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by its name (``starter/reverie``). overrides: ``train.steps=10`` and so on.

    Raises RecipeError that lists all faults with their lines.
    """
    path = Path(source)
    if not path.is_file() and str(source) in shipped_recipes():
        path = shipped("recipes") / f"{source}.yaml"
    if not path.is_file():
        what = "is a folder, not a recipe" if path.is_dir() else "no such recipe"
        raise RecipeError(
            f"{source}: {what}.",
            hint=f"Give a YAML file or a shipped recipe. {did_you_mean(str(source), shipped_recipes())}",
        )
    return load_model(path, Recipe, overrides, context={_FOLDER: path.parent})
