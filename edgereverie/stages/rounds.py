"""CSR: rounds in which a model searches its own answers, rewards them, and learns the best against the worst.

runs/<name>/
    run.json          what the rounds are of; more of them may be asked for later
    data/             drawn scenes, where the recipe draws some
    round-1/
        search.jsonl  every prompt's tree: nothing in it is searched again
        pairs.jsonl   what the round learns from, with its data card
        train/        a run folder of the method dpo
        model/        the round's result: what the next round begins with
        report.json   written last: a round that has one is finished and is not done again
    report.md         all rounds side by side
    evaluation/       where the recipe asks for it
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import write_text
from edgereverie.errors import MissingPackage, RecipeError
from edgereverie.recipe import Backbone, Csr, Data, Recipe, Source
from edgereverie.stages import tuning
from edgereverie.stages._console import bar, console
from edgereverie.stages.backbones import open_model
from edgereverie.stages.data import training_records
from edgereverie.stages.evaluation import Asked, artefact, evaluate
from edgereverie.tuning import processor

if TYPE_CHECKING:
    from edgereverie.synthesis.csr.pairs import Found
    from edgereverie.synthesis.csr.search import Judge
    from edgereverie.synthesis.inputs import Item

REPORT = "report.json"
_MUCH_LONGER = 1.25  # from this ratio of lengths on, length alone may tell the sides apart


def csr(recipe: Recipe, out: Path, *, anyway: bool = False) -> Path:
    """All rounds that the recipe asks for; the last one's model folder.

    Stopped at any moment, the same call goes on where it was. Finished rounds stay as they are, also when more are asked
    for. Raises TrainError when ``out`` holds a run of another recipe or other data.
    """
    distributed = _distributed()
    processor.spare()
    settings = recipe.train.csr
    out.mkdir(parents=True, exist_ok=True)
    with distributed.main_first():
        samples, images, items = asked(recipe, out)
        _require_same_run(out, recipe, samples)
        start = tuning.base_folder(recipe, out).path
    models = [start]
    for number in range(1, settings.rounds + 1):
        folder = out / f"round-{number}"
        if not (folder / REPORT).is_file():
            _round(recipe, number, folder, models[-1], items, images, anyway=anyway)
        models.append(_result(folder))
        with distributed.main_first():
            if distributed.is_main():
                _summarise(out, number)
                if settings.evaluate:
                    _measure(recipe, out, start, models)
    return models[-1]


def asked(recipe: Recipe, out: Path) -> tuple[list[Any], Path, list[Item]]:
    """The recipe's samples, the folder of their pictures, and what each round asks about them."""
    from edgereverie.synthesis.csr.pairs import prompts

    samples, images, _ = training_records(recipe, "samples", out)
    if images is None:
        raise RecipeError(
            "CSR searches answers about pictures, and no image folder is named.",
            hint="Set data.images, or data.scenes.",
        )
    settings = recipe.train.csr
    return samples, images, prompts(samples, images, ask=settings.ask, most=settings.prompts, seed=recipe.data.seed)


def _distributed() -> Any:
    """Who of several processes searches and writes, and who waits."""
    try:
        from edgereverie.tuning import distributed
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Training", "train") from None
    return distributed


def _measure(recipe: Recipe, out: Path, start: Path, models: Sequence[Path]) -> None:
    """All models so far in one report, the one that the rounds began with first."""
    measured = recipe.evaluate
    evaluate(
        [recipe.backbone.model if start.parent != out else str(start), *map(str, models[1:])],
        benchmarks=measured.benchmarks, data=measured.data, limit=measured.limit,
        asked=Asked(measured.guard), out=out / "evaluation",
    )  # fmt: skip


def _require_same_run(out: Path, recipe: Recipe, samples: Sequence[Any]) -> None:
    """As for every run, but that more rounds, and measuring them, may be asked for later."""
    from edgereverie.tuning import run_folder

    asked = recipe.train.csr.model_copy(update={"rounds": 1, "evaluate": False})
    one = recipe.model_copy(update={"train": recipe.train.model_copy(update={"csr": asked})})
    run_folder.require_same_run(out, one, samples)
    with run_folder.written(out / "recipe.yaml"):
        recipe.dump(out / "recipe.yaml")


def _round(
    recipe: Recipe, number: int, folder: Path, model: Path, items: Sequence[Item], images: Path, *, anyway: bool
) -> None:
    """One process searches, all train, one merges: those that wait find its work done."""
    from edgereverie.tuning.run_folder import written

    distributed = _distributed()
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with distributed.main_first():
        if distributed.is_main():
            console.print(f"round {number} of {recipe.train.csr.rounds}: {len(items):,} prompts, {model}")
            found = _searched(recipe, number, folder, model, items)
    looked = time.perf_counter()
    trained = tuning.train(_training(recipe, number, folder, model, images), folder / "train", anyway=anyway)
    with distributed.main_first():
        if not distributed.is_main():
            return
        if trained.name == "adapter" and not (folder / "model").is_dir():
            with written(folder / "model"):
                tuning.merge(trained, folder / "model", base=str(model))
        report = {"round": number, "model": "start" if number == 1 else f"round-{number - 1}"} | _figures(found)
        report |= {"train": _last_line(folder / "train" / "log.jsonl")}
        report |= {"seconds": {"search": looked - started, "train": time.perf_counter() - looked}}
        with written(folder / REPORT):
            write_text(folder / REPORT, json.dumps(report, indent=2) + "\n")
        _tell_of_length(report["words"], recipe.train.csr)


def _tell_of_length(words: Mapping[str, float], settings: Csr) -> None:
    """Say so when one side is much longer: then the model may learn how long to be, not to be right."""
    ratio = words["chosen"] / words["rejected"]
    if 1 / _MUCH_LONGER <= ratio <= _MUCH_LONGER:
        return
    if ratio < 1:
        why = "shortness may be what is learned; train.preference.normalise compares answers per token"
    elif settings.reward == "paper":
        why = "sums of rewards grow with the sentences; set train.csr.reward to repo, which takes their mean"
    else:
        why = "the judge prefers them"
    console.print(f"  chosen answers are {ratio:.1f} times as long as rejected ones: {why}")


def _result(folder: Path) -> Path:
    """The round's model: merged, or trained in full."""
    merged = folder / "model"
    return merged if merged.is_dir() else folder / "train" / "model"


def _training(recipe: Recipe, number: int, folder: Path, model: Path, images: Path) -> Recipe:
    """What a round trains by: DPO on its pairs, from its model, with everything else as the recipe says."""
    first = number == 1 and recipe.backbone.model != "starter:untrained"
    start = recipe.backbone if first else Backbone(model=str(model), quantization=recipe.backbone.quantization)
    return Recipe(
        name=f"{recipe.name[:90]}-round-{number}",
        backbone=start,
        data=Data(train=(Source(path=folder / "pairs.jsonl"),), images=images, seed=recipe.data.seed),
        train=recipe.train.model_copy(update={"method": "dpo", "csr": Csr()}),
    )


def _searched(recipe: Recipe, number: int, folder: Path, model: Path, items: Sequence[Item]) -> Found:
    """The round's pairs, in pairs.jsonl; what the journal holds is not searched again."""
    from edgereverie.runtime.voice import ModelVoice
    from edgereverie.synthesis.csr import pairs
    from edgereverie.synthesis.csr.search import Settings
    from edgereverie.synthesis.journal import Journal
    from edgereverie.tuning.run_folder import written

    wanted = recipe.train.csr
    settings = Settings(wanted.beams, wanted.diversity, wanted.sentence_tokens, wanted.characters)
    with ExitStack() as open_things:
        judge = _judge(wanted.judge)
        place = _searchable(model, wanted.profile, folder)
        loaded = open_things.enter_context(open_model(str(place)))
        voice = ModelVoice(loaded)
        journal = open_things.enter_context(Journal(folder / "search.jsonl"))
        progress = open_things.enter_context(bar(f"search round {number}"))
        identity = artefact(loaded)
        trees = pairs.searched(items, voice, settings, judge, journal, identity, progress)
        found = pairs.paired(trees, wanted.reward, wanted.weight)
        if cut := getattr(judge, "cut", 0):
            console.print(f"  {cut:,} sentences were longer than CLIP reads, and judged by their beginnings")
    with written(folder / "pairs.jsonl"):
        pairs.write_found(
            folder / "pairs.jsonl",
            found,
            sources=[source.path.name for source in recipe.data.train] or ["drawn scenes"],
            model=f"{recipe.backbone.model}, " + ("as it was" if number == 1 else f"after round {number - 1}"),
            identity=identity,
            judge=pairs.IMAGE_GAIN if judge is None else judge.identity,
            reward=f"{wanted.reward}, weight of relevance {wanted.weight:g}",
            seed=recipe.data.seed,
        )
    return found


def _judge(named: str) -> Judge | None:
    if named == "gain":
        return None
    from edgereverie.synthesis.csr.clip import Clip

    return Clip(Path(named))


def _searchable(model: Path, profile: str | None, folder: Path) -> Path:
    if profile is None:
        return model
    from edgereverie.stages.exporting import export

    return export(model, [profile], folder / "bundles")[0]


def _figures(found: Found) -> dict[str, Any]:
    from edgereverie.synthesis.csr.pairs import counted

    told = counted(found)
    return {
        "prompts": found.prompts,
        "pairs": len(found.pairs),
        "sentences": found.sentences,
        "dropped": dict(told.dropped),
        "noted": dict(told.noted),
        "reward": {
            "chosen": fmean(chosen for chosen, _ in found.rewards),
            "rejected": fmean(rejected for _, rejected in found.rewards),
            "margin": fmean(chosen - rejected for chosen, rejected in found.rewards),
        },
        "words": {
            side: fmean(len(getattr(pair, side).split()) for pair in found.pairs) for side in ("chosen", "rejected")
        },
    }


def _last_line(log: Path) -> dict[str, Any]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return json.loads(lines[-1]) if lines else {}


def _summarise(out: Path, rounds: int) -> None:
    """report.md: one line for each finished round."""
    head = ("round", "prompts", "pairs", "reward chosen", "reward rejected", "words chosen", "words rejected",
            "DPO loss", "pairs told apart")  # fmt: skip
    lines = ["# Rounds", "", f"| {' | '.join(head)} |", "|" + "---:|" * len(head)]
    for number in range(1, rounds + 1):
        told = json.loads((out / f"round-{number}" / REPORT).read_text(encoding="utf-8"))
        reward, words, train = told["reward"], told["words"], told["train"]
        cells = [f"{number}", f"{told['prompts']:,}", f"{told['pairs']:,}", f"{reward['chosen']:.4f}",
                 f"{reward['rejected']:.4f}", f"{words['chosen']:.1f}", f"{words['rejected']:.1f}",
                 _shown(train.get("loss"), ".3f"), _shown(train.get("reward_accuracy"), ".0%")]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Rewards are of the search: within a round they compare answers, between rounds only by the same judge.",
              "Loss and pairs told apart are of the last logged steps.", ""]  # fmt: skip
    write_text(out / "report.md", "\n".join(lines))


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
