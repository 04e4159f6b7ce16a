"""What an export target and an export profile are.

A target writes one kind of artefact (``gguf``, ``onnx``); a profile is a target with its quantization, its settings and
the parity that the result has to reach. Everything that can be refused is refused by ``check`` before any weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field, ValidationError, create_model

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError, RecipeError
from edgereverie.registry import TARGETS, did_you_mean
from edgereverie.shipped import shipped, shipped_profiles
from edgereverie.strict_yaml import Document, StrictModel, load_model

if TYPE_CHECKING:
    import numpy as np

    from edgereverie.export.weights import Weights

Progress = Callable[[str, float], None]  # what is being done, and the share that is done, in [0, 1]
Case = tuple[Sequence[int], "np.ndarray | None"]  # token ids with repeated image tokens, and prepared pixels or None


def silent(step: str, share: float) -> None:
    """A Progress that shows nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a target is given to write.

    out: an existing, empty folder. prompts: conversations of the domain that the model was tuned for, with pictures, for
    whatever looks at activations; they are made when asked for.
    """

    folder: ModelFolder
    weights: Weights
    profile: Profile
    out: Path
    prompts: Callable[[], Sequence[Case]]
    progress: Progress = silent


class Target(Protocol):
    """A way to leave torch: what ``TARGET`` in a module of ``export.targets`` is.

    quantizations: those it can write, as upstream spells them. settings: what its profiles may say besides, with the
    defaults. packages: what it imports.
    """

    name: str
    quantizations: tuple[str, ...]
    settings: type[StrictModel]
    packages: tuple[str, ...]

    def check(self, folder: ModelFolder, profile: Profile) -> None:
        """Raise ExportError or MissingPackage for what cannot be written, from config and headers alone."""
        ...

    def write(self, job: Job) -> dict[str, str]:
        """Fill the folder ``job.out``. Returns the written files by role, as paths relative to it."""
        ...

    def inspect(self, folder: ModelFolder, out: Path, files: Mapping[str, str]) -> dict[str, Any]:
        """What can be verified on the written files without running the model; goes into the bundle's parity."""
        ...


class NoSettings(StrictModel):
    """For a target whose profiles say nothing besides their quantization."""


class ParityBound(StrictModel):
    """What a bundle has to reach against the model it was made from.

    max_logit_diff: largest absolute difference of any logit, or null for a quantization that has no such bound.
    min_top1: share of positions whose most likely token is the same. max_mean_kl: mean divergence from the model's
    distribution, in nats. max_perplexity_ratio: how many times the model's perplexity of the prompts' own answers. null: no
    such bound.
    """

    max_logit_diff: float | None = Field(default=None, gt=0)
    min_top1: float = Field(default=1.0, ge=0, le=1)
    max_mean_kl: float | None = Field(default=None, gt=0)
    max_perplexity_ratio: float | None = Field(default=None, gt=1)


class Profile(StrictModel):
    """One way in which models leave: a file of ``export/profiles``.

    settings: what the target lets a profile say besides. prompts: how many the parity is measured on.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    target: str
    quantization: str
    description: str
    settings: Mapping[str, Any] = Field(default_factory=dict)
    prompts: int = Field(default=16, ge=1, le=10_000)
    parity: ParityBound


def profiles() -> list[str]:
    """Names of the shipped profiles."""
    return shipped_profiles()


def load_profile(name: str | Path) -> Profile:
    """The shipped profile of that name, or the one in the YAML file at that path.

    Raises RecipeError that lists all faults with their lines, those of the target's own settings among them.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"{path}: no such profile.", hint=f"Shipped profiles: {', '.join(profiles())}.")
    elif str(name) in profiles():
        path = shipped("export") / "profiles" / f"{name}.yaml"
    else:
        raise RecipeError(f"Unknown export profile {str(name)!r}.", hint=did_you_mean(str(name), profiles()))
    found = load_model(path, _profile_of(path))
    return Profile(**found.model_dump(exclude_unset=True))


def _profile_of(path: Path) -> type[Profile]:
    """Profile with the settings of the target that the file names, where that is a known one."""
    try:
        target = Document(str(path), path.read_text(encoding="utf-8-sig")).value.get("target")
    except (OSError, UnicodeDecodeError):  # for load_model to tell
        target = None
    if target not in TARGETS.names():
        return Profile
    settings = TARGETS.get(target).settings
    return create_model("Profile", __base__=Profile, settings=(settings, Field(default_factory=settings)))


def find_target(folder: ModelFolder, profile: Profile) -> Target:
    """The profile's target, once it is sure that it can write this model. No weight is loaded."""
    if profile.target not in TARGETS.names():
        raise ExportError(f"Profile {profile.name!r} names the unknown target {profile.target!r}.",
                          hint=did_you_mean(profile.target, TARGETS.names()))  # fmt: skip
    if profile.target not in folder.exports:
        TARGETS.get(profile.target).check(folder, profile)  # it may know the reason
        text = folder.config["text_config"]["model_type"]
        known = ", ".join(folder.exports) or "nothing yet; PyTorch runs it where it lies"
        raise ExportError(
            f"A {folder.backbone.name!r} with this language model ({text}) cannot leave as {profile.target!r}.",
            hint=f"It leaves as: {known}.",
        )
    target: Target = TARGETS.get(profile.target)
    if profile.quantization not in target.quantizations:
        raise ExportError(f"The target {target.name!r} knows no quantization {profile.quantization!r}.",
                          hint=did_you_mean(profile.quantization, target.quantizations))  # fmt: skip
    resolved_settings(target, profile)
    target.check(folder, profile)
    return target


def resolved_settings(target: Target, profile: Profile) -> dict[str, Any]:
    """The profile's settings with the target's defaults, as plain values. Raises ExportError for what the target knows not."""
    try:
        return target.settings(**profile.settings).model_dump(mode="json")
    except ValidationError as error:
        told = "; ".join(f"settings.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ExportError(f"Profile {profile.name!r}: {told}.",
                          hint=did_you_mean("", target.settings.model_fields)) from None  # fmt: skip
