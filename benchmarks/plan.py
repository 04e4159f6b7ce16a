"""What every shipped recipe for a published backbone takes on cards of 8, 12, 16 and 24 GB, as ``edgereverie plan`` sees it.

    python benchmarks/plan.py                        # all of them: results/plan.json, and the table of them as Markdown
    python benchmarks/plan.py llava-phi3/reverie-8gb

What it takes of the card that a recipe is named for is written into the recipe's header.

Planned, not measured: no weights are loaded and nothing is trained. The models have their full published geometry and no
values; the data have the shape of the published sets and made-up words. Of these sets, known are the number of records, of
conversations about one picture, and the bytes of the files; from them and from what their authors tell the lengths below
are set, each a log-normal distribution of words. A word counts as four thirds of a token, about what English takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgereverie.bundle import write_text
from edgereverie.recipe import Recipe, load_recipe
from edgereverie.records import PreferencePair, Sample, Turn
from edgereverie.shipped import shipped, shipped_recipes

RESULTS = Path(__file__).parent / "results" / "plan.json"
CARDS = (8, 12, 16, 24)
PICTURES = 400  # of made-up data; lengths are taken from them, numbers of records from the published sets
TOKENS_PER_WORD = 4 / 3
_WORD, _PAD = "w", "<pad>"


# ---- data in the shape of the published sets ------------------------------------------------------------------------


class Writer:
    """Texts of so many words, as one token for each of their tokens."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def words(self, mean: float, spread: float, most: int) -> str:
        """A text whose length is drawn: log-normal with this mean of words, at least one, at most ``most``."""
        drawn = self.random.lognormvariate(math.log(mean) - spread**2 / 2, spread)
        return " ".join([_WORD] * max(1, round(TOKENS_PER_WORD * min(drawn, most))))

    def some(self, shares: Sequence[tuple[int, float]]) -> int:
        numbers, weights = zip(*shares, strict=True)
        return self.random.choices(numbers, weights)[0]


def reverie(write: Writer, picture: int) -> Iterator[Sample]:
    """REVERIE: 71,558 pictures, 115,280 questions, each with a positive rationale and 1.2 negative ones (254,177 rows of 983
    bytes, of which some 750 are text). One picture in fifteen is of ScienceQA, whose explanations are long.
    """
    science = write.random.random() < 4914 / 71_558
    for question in range(write.some([(1, 0.55), (2, 0.32), (3, 0.10), (4, 0.03)])):
        trunk = (
            Turn("user", write.words(40 if science else 16, 0.5, 150)),
            Turn("assistant", write.words(8, 0.9, 60)),
        )
        for number in range(1 + write.some([(1, 0.84), (2, 0.12), (3, 0.04)])):
            kind = "negative" if number else "positive"
            asked = Turn("user", write.words(22 if number else 9, 0.3, 60))
            told = Turn("assistant", write.words(90 if science else 48, 0.45, 260))
            yield Sample(f"r{picture}-{question}-{number}", f"{picture}.jpg", (*trunk, asked, told), rationale=kind)


def lrv(write: Writer, picture: int) -> Iterator[Sample]:
    """LRV-Instruction: some 300,000 questions about 35,000 pictures of Visual Genome, answers below 30 words."""
    for question in range(write.some([(6, 0.3), (9, 0.4), (12, 0.3)])):
        turns = (Turn("user", write.words(13, 0.35, 40)), Turn("assistant", write.words(15, 0.5, 60)))
        yield Sample(
            f"l{picture}-{question}", f"{picture}.jpg", turns, polarity="negative" if question % 2 else "positive"
        )


def povid(write: Writer, picture: int) -> Iterator[PreferencePair]:
    """POVID: 17,000 rows of 1,229 bytes, of which some 860 are the two answers."""
    turns = (Turn("user", write.words(12, 0.3, 40)),)
    yield PreferencePair(f"p{picture}", f"{picture}.jpg", turns, write.words(72, 0.6, 250), write.words(75, 0.6, 250))


def csr(write: Writer, picture: int) -> Iterator[PreferencePair]:
    """CSR: answers up to 1,024 characters and the sentence that passes them; published rows hold 730 characters a side."""
    turns = (Turn("user", write.words(9, 0.2, 20)),)
    yield PreferencePair(
        f"c{picture}", f"{picture}.jpg", turns, write.words(122, 0.35, 230), write.words(122, 0.35, 230)
    )


# The folder of a data file: what its rows are like, and how many there are.
SHAPES: dict[str, tuple[Callable[[Writer, int], Iterator[Any]], int]] = {
    "reverie": (reverie, 254_177),
    "lrv": (lrv, 280_000),  # balanced one to one; versions of it differ, and none is told exactly
    "povid": (povid, 17_000),
}


def records_of(recipe: Recipe) -> tuple[list[Any], int]:
    """Made-up records of the recipe's data, and how many records there would be; of CSR, of one round."""
    if recipe.train.method == "csr":
        return made(csr, PICTURES), recipe.train.csr.prompts or 12_856
    (source,) = recipe.data.train
    shape, number = SHAPES[source.path.parent.name]
    return made(shape, PICTURES), number


def made(shape: Callable[[Writer, int], Iterator[Any]], pictures: int) -> list[Any]:
    write = Writer(0)
    return [record for picture in range(pictures) for record in shape(write, picture)]


def pictures_of(records: Sequence[Any], folder: Path) -> None:
    """A small picture under each name; a plan opens a few and learns nothing from them."""
    from PIL import Image

    folder.mkdir(parents=True)
    for name in {record.image for record in records}:
        Image.new("RGB", (64, 48), (90, 120, 60)).save(folder / name)


# ---- models of full size without values -----------------------------------------------------------------------------


def published(recipe: str) -> str:
    """The hub id of a shipped recipe's model; where it begins with another run's result, of that run's model."""
    model = load_recipe(recipe).backbone.model
    if not model.startswith("runs/"):
        return model
    family = recipe.partition("/")[0]
    before = model.split("/")[1].removeprefix(f"{family}-")
    return published(f"{family}/{before}")


def hollow(name: str) -> Any:
    """The model folder of a published model's id, with its geometry, a tokenizer of one word, and no weights."""
    from edgereverie.backbones._catalogue import catalogue
    from edgereverie.backbones._keys import KeyMap
    from edgereverie.backbones._layouts.base import Described
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.chat import chat_format
    from edgereverie.records import ImageSpec
    from edgereverie.registry import BACKBONES

    model = next(one for one in catalogue() if one.id == name)
    tokenizer = _tokenizer(model.chat)
    end, pad = map(tokenizer.token_to_id, (chat_format(model.chat).end, _PAD))
    text = dict(model.config["text_config"]) | {"bos_token_id": end, "eos_token_id": end, "pad_token_id": pad}
    if text["model_type"] == "phi3":
        text["original_max_position_embeddings"] = text["max_position_embeddings"]
    vision = model.config["vision_config"]
    siglip = vision["model_type"] == "siglip_vision_model"
    image = ImageSpec(vision["image_size"], vision["patch_size"], (0.5,) * 3, (0.5,) * 3, dropped=int(siglip))
    config = dict(model.config) | {
        "text_config": text, "image_token_index": tokenizer.token_to_id("<image>"), "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default", "image_seq_length": image.tokens, "tie_word_embeddings": False,
    }  # fmt: skip
    described = Described(config, image, model.chat, lambda: tokenizer, dict, KeyMap(()))
    return ModelFolder(Path(name), model.layout, BACKBONES.get(model.backbone), described)


def _tokenizer(chat: str) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    from edgereverie.chat import chat_format

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, _PAD: 1, _WORD: 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    control = {*chat_format(chat).control, "<image>"}
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in sorted(control)])
    return tokenizer


# ---- plans ----------------------------------------------------------------------------------------------------------


def planned(name: str) -> dict[str, Any]:
    """A shipped recipe's plan on every card, as ``edgereverie plan --json`` tells it, and the model it was planned for."""
    from edgereverie.registry import METHODS
    from edgereverie.stages.planning import told
    from edgereverie.tuning import trainer
    from edgereverie.tuning.plan import Planner, named_card

    trainer.quiet()
    recipe, model = load_recipe(name), published(name)
    method, folder = METHODS.get(recipe.train.method), hollow(model)
    records, number = records_of(recipe)
    with TemporaryDirectory(prefix="edgereverie-plan-") as place:
        images = Path(place) / "images"
        pictures_of(records, images)
        planner = Planner(recipe, method, folder, records, images)
        planner.records = number
        plan = planner.plan([named_card(card, recipe.train.precision) for card in CARDS])
    return {"model": model, "method": recipe.train.method, "train_sha256": fingerprint(recipe), **told(plan)}


def fingerprint(recipe: Recipe) -> str:
    """Of the settings that a plan depends on, so that a recipe which was changed since is noticed."""
    return hashlib.sha256(recipe.train.model_dump_json().encode()).hexdigest()


def tell(name: str, found: dict[str, Any]) -> None:
    """Put the plan for the card that a recipe is named for into its header."""
    card = name.rpartition("-")[2].removesuffix("gb")
    estimate = next(one["estimate"] for one in found["machines"] if one["name"].startswith(f"{card} GB "))
    hours = max(1, round(estimate["seconds"] / 3600))
    told = f"{estimate['peak_bytes'] / 2**30:.1f} GB at the peak, about {hours} hour{'s' if hours > 1 else ''}"
    path = shipped("recipes") / f"{name}.yaml"
    before = path.read_text(encoding="utf-8")
    write_text(path, re.sub(r"(?<=not measured on a card: )[\d.]+ GB at the peak, about \d+ hours?", told, before))


def line(name: str, found: dict[str, Any]) -> str:
    cells = []
    for machine in found["machines"]:
        best = machine["estimate"] if machine["fits"] else machine["proposed"]
        if best is None:
            cells.append("does not fit")
            continue
        mark = "" if machine["fits"] else "*"
        cells.append(
            f"{best['peak_bytes'] / 2**30:.1f}{mark}, {best['tokens_per_second']:,.0f}, {best['seconds'] / 3600:,.0f} h"
        )
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="Names of shipped recipes; all of published backbones by default.")
    asked = parser.parse_args().recipes
    RESULTS.parent.mkdir(exist_ok=True)
    for name in asked or [name for name in shipped_recipes() if not name.startswith("starter/")]:
        found = planned(name)
        result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        result = {known: result[known] for known in result if known in shipped_recipes()} | {name: found}
        write_text(RESULTS, json.dumps(dict(sorted(result.items())), indent=1) + "\n")
        tell(name, found)
        print(line(name, found), file=sys.stderr, flush=True)
    print("| recipe | " + " | ".join(f"{card} GB" for card in CARDS) + " |")
    print("|---" * (1 + len(CARDS)) + "|")
    print("\n".join(line(name, found) for name, found in sorted(result.items())))
    print("\nGB at the peak, tokens per second, the whole run; * with the changes that the plan proposes.")


if __name__ == "__main__":
    main()
