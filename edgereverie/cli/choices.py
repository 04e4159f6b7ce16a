"""Options whose values are what is registered: a new guard or backend is known here as soon as its file exists."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgereverie.runtime.profiles import DEFAULT, PROFILES

if TYPE_CHECKING:
    from edgereverie.records import Options


def known(registry: str, *others: str) -> Callable[[str], str]:
    """A callback that refuses an unknown name before anything is loaded, and suggests the nearest."""

    def check(name: str) -> str:
        from edgereverie import registry as registries

        chosen = getattr(registries, registry)
        names = [*others, *chosen.names()]
        if name not in names:
            raise typer.BadParameter(f"unknown {chosen.kind} {name!r}. {registries.did_you_mean(name, names)}")
        return name

    return check


def benchmarks(names: str) -> list[str]:
    """Names with commas between them, each of them known; a way of scoring may follow behind a slash (``pope/vcd``)."""
    from edgereverie.registry import BENCHMARKS, did_you_mean

    check, found = known("BENCHMARKS"), [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise typer.BadParameter("name at least one benchmark, such as pope.")
    for name, _, variant in (name.partition("/") for name in found):
        ways = BENCHMARKS.get(check(name)).variants
        if variant and variant not in ways:
            raise typer.BadParameter(f"{name} knows no scoring {variant!r}. {did_you_mean(variant, ways)}")
    return found


def guards_named(names: str | None) -> str | None:
    """Names of guards or profiles with commas between them, each of them known; None stays None."""
    if names is None:
        return None
    check = known("GUARDS", *PROFILES)
    found = [check(name.strip()) for name in names.split(",") if name.strip()]
    if not found:
        raise typer.BadParameter("name at least one guard; none is the name of doing without.")
    if "none" in found and len(found) > 1:
        raise typer.BadParameter("none goes with no other guard.")
    return ",".join(found)


def _profile(name: str | None) -> str | None:
    from edgereverie.registry import did_you_mean

    if name is not None and name not in PROFILES:
        raise typer.BadParameter(f"unknown profile {name!r}. {did_you_mean(name, PROFILES)}")
    return name


def guarding(names: str | None, profile: str | None) -> str:
    """The guards that --guard or --guard-profile name, DEFAULT where neither does.

    Raises EdgeReverieError for guards that do not go together.
    """
    from edgereverie.runtime.guarding import chosen

    if names is not None and profile is not None:
        raise typer.BadParameter("name guards or a profile, not both.", param_hint="--guard-profile")
    guards = names or profile or DEFAULT
    chosen(guards)
    return guards


def _device(name: str) -> str:
    from typing import get_args

    from edgereverie.registry import did_you_mean
    from edgereverie.runtime.choosing import Device as Known

    if name not in get_args(Known):
        raise typer.BadParameter(f"unknown device {name!r}. {did_you_mean(name, get_args(Known))}")
    return name


def _above_zero(value: float) -> float:
    if not 0 < value <= 1e6:
        raise typer.BadParameter("expected a number above 0.")
    return value


def _share_above_zero(value: float) -> float:
    if not 0 < value <= 1:
        raise typer.BadParameter("expected a number above 0, and at most 1.")
    return value


Guard = Annotated[
    str | None,
    typer.Option(
        callback=guards_named,
        metavar="NAMES",
        show_default=DEFAULT,
        help="With commas between them: flag marks doubtful claims, verify asks back and mends the answer, none does "
        "neither; others are abstain, agree, contrast, reflect, rollback and search.",
    ),
]
GuardProfile = Annotated[
    str | None,
    typer.Option(callback=_profile, metavar="NAME", help="Guards by what they may cost: fast, balanced or careful."),
]
Device = Annotated[
    str,
    typer.Option(
        callback=_device, metavar="NAME", help="cpu or cuda; auto takes CUDA where it works, and says when it does not."
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        callback=known("BACKENDS", "auto"), help="hf, llamacpp or onnxrt; auto takes what the model is made for."
    ),
]
JUDGES = "Judges"  # their panel in the help
Judge = Annotated[
    str | None,
    typer.Option(help="Who judges what no rule can score: a server, a bundle, a folder.", rich_help_panel=JUDGES),
]
JudgeModel = Annotated[
    str | None, typer.Option(metavar="NAME", help="The judge, where its server has several.", rich_help_panel=JUDGES)
]
JudgeKey = Annotated[
    str | None, typer.Option(metavar="NAME", help="The variable with the judge's key.", rich_help_panel=JUDGES)
]


def _drawn(kind: Any, default: Any, help: str, **how: Any) -> tuple[Any, Any]:
    return Annotated[kind, typer.Option(help=help, rich_help_panel="How to generate", **how)], default


_SAMPLING: dict[str, tuple[Any, Any]] = {  # one for each field of Options
    "max_tokens": _drawn(int, 160, "Longest answer, in tokens.", min=1),
    "temperature": _drawn(float, 0.0, "0 takes the likeliest word each time.", min=0.0, max=100.0),
    "top_p": _drawn(float, 1.0, "Only the likeliest words, together of this probability.", callback=_share_above_zero),
    "top_k": _drawn(int, 0, "Only so many of the likeliest words; 0 for all.", min=0),
    "min_p": _drawn(float, 0.0, "Only words at least so likely, against the likeliest.", min=0.0, max=1.0),
    "repetition_penalty": _drawn(float, 1.0, "Above 1: words that were said are less likely.", callback=_above_zero),
    "seed": _drawn(int, 0, "The same seed samples the same answer.", min=0),
    "stop": _drawn(list[str] | None, None, "A word that ends the answer. Repeat it for more."),
    "grammar": _drawn(str, "", "json, or a file with a grammar in GBNF.", metavar="json|FILE"),
}


MaxTokens = _SAMPLING["max_tokens"][0]


def sampled(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with an option for each field of ``Options``; its keyword ``options`` gets them as one."""

    @functools.wraps(verb)
    def run(**given: Any) -> Any:
        return verb(**{name: value for name, value in given.items() if name not in _SAMPLING}, options=_options(given))

    own = inspect.signature(verb, eval_str=True).parameters
    places: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if name == "options":
            places += [
                inspect.Parameter(other, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
                for other, (kind, default) in _SAMPLING.items()
            ]
        else:
            places.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(places)  # type: ignore[attr-defined]
    run.__annotations__ = {place.name: place.annotation for place in places}
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def _options(given: dict[str, Any]) -> Options:
    from edgereverie.records import Options

    values = {name: given[name] for name in _SAMPLING}
    values["stop"] = tuple(values["stop"] or ())
    if "" in values["stop"]:
        raise typer.BadParameter("a stop word is empty.", param_hint="--stop")
    values["grammar"] = _grammar(values["grammar"])
    return Options(**values)


def _grammar(name: str) -> str:
    if name in ("", "json"):
        return name
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise typer.BadParameter(f"{name}: cannot be read ({reason}).", param_hint="--grammar") from None
