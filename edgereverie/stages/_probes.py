"""The prompts by which two forms of one model are compared: of what it was tuned for, else about drawn scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count as counting
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from edgereverie.errors import EdgeReverieError
from edgereverie.records import PreferencePair, Sample, Turn
from edgereverie.stages._console import console

if TYPE_CHECKING:
    from PIL import Image

    from edgereverie.backbones.base import ModelFolder
    from edgereverie.export.parity import Prompt
    from edgereverie.recipe import Recipe

Purpose = Literal["parity", "activations"]
SCENES = "drawn scenes"
_BLIND = 4  # every fourth prompt comes without its picture
_LONGEST = 1024  # tokens of a prompt beside the picture's


def probe_prompts(folder: ModelFolder) -> list[tuple[list[int], Any]]:
    """A few prompts for comparisons, (ids, pixels or None): questions and answers, with drawn pictures and without."""
    from edgereverie.chat import encode
    from edgereverie.data.scenes.draw import draw_scene
    from edgereverie.data.scenes.talk import reflective
    from edgereverie.data.scenes.world import make_scene
    from edgereverie.image import prepare

    tokenizer = folder.tokenizer()
    cases: list[tuple[list[int], Any]] = []
    for index in range(6):
        scene = make_scene(f"probe/{index}", 0.5)
        sample = next(reflective(scene, "", Random(f"probe/{index}")))
        tokens = 0 if index >= 4 else folder.image.tokens
        image_id = folder.config.get("image_token_index")
        ids, _ = encode(tokenizer, folder.chat, sample.turns, image_tokens=tokens, image_id=image_id)
        cases.append((ids, prepare(draw_scene(scene), folder.image) if tokens else None))
    return cases


def probe_batches(folder: ModelFolder) -> list[dict[str, Any]]:
    """The probe prompts as batches of one for the model itself."""
    import torch

    return [
        {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        | ({} if pixels is None else {"pixel_values": torch.from_numpy(pixels)[None]})
        for ids, pixels in probe_prompts(folder)
    ]


class Domain:
    """What a model was tuned for, as conversations to ask it: its recipe's data files, where they can be read, else scenes.

    name: where they come from. The data are read once, when first asked for.
    """

    def __init__(self, recipe: Recipe | None) -> None:
        self._recipe = recipe

    @property
    def name(self) -> str:
        recipe = self._recipe
        return (
            SCENES if self._records is None or recipe is None else ", ".join(one.path.name for one in recipe.data.train)
        )

    def prompts(self, folder: ModelFolder, count: int, purpose: Purpose = "parity") -> list[Prompt]:
        """The first ``count`` prompts, one in four without a picture; the same first ones for every count.

        Purposes are asked different things, or a matrix of importance would be judged by what it was measured on: other
        scenes, that no training draws, and of data files the other end of one order.
        """
        if self._records is not None and (found := list(islice(_prompts(folder, self._recorded(purpose)), count))):
            return found
        return list(islice(_prompts(folder, _drawn(purpose)), count))

    @cached_property
    def _records(self) -> tuple[Sequence[Sample | PreferencePair], Path | None] | None:
        from edgereverie.registry import METHODS
        from edgereverie.stages.data import training_records

        if self._recipe is None or self._recipe.data.scenes is not None:
            return None
        try:
            with TemporaryDirectory(prefix="edgereverie-prompts-") as out:
                kind = METHODS.get(self._recipe.train.method).kind
                records, images, _ = training_records(self._recipe, kind, Path(out))
        except (EdgeReverieError, OSError) as error:
            console.print(f"  the data it was tuned on cannot be read ({error}); it is asked about {SCENES}")
            return None
        return sorted(records, key=lambda one: hashlib.sha256(one.id.encode()).digest()), images

    def _recorded(self, purpose: Purpose) -> Iterator[tuple[Sequence[Turn], Path | None]]:
        records, images = self._records or ((), None)
        for record in records if purpose == "parity" else reversed(records):
            yield _turns(record), images / record.image if images and record.image else None


def _prompts(folder: ModelFolder, asked: Iterator[tuple[Sequence[Turn], Any]]) -> Iterator[Prompt]:
    """Conversations and their pictures as prompts; too long ones are left out, and those without a picture go between."""
    from edgereverie.chat import encode
    from edgereverie.export.parity import Prompt
    from edgereverie.image import prepare

    tokenizer, made = folder.tokenizer(), 0
    room = min(folder.context, _LONGEST + folder.image.tokens)
    for turns, picture in asked:
        seen = picture is not None and made % _BLIND != _BLIND - 1
        tokens = folder.image.tokens if seen else 0
        ids, answers = encode(
            tokenizer, folder.chat, turns, image_tokens=tokens, image_id=folder.config.get("image_token_index")
        )
        if len(ids) > room:
            continue
        yield Prompt(ids, prepare(_opened(picture), folder.image) if seen else None, answers)
        made += 1


def _opened(picture: Path | Image.Image) -> Image.Image:
    from edgereverie.image import open_image

    return open_image(picture) if isinstance(picture, Path) else picture


def _drawn(purpose: Purpose) -> Iterator[tuple[Sequence[Turn], Any]]:
    """Every kind of conversation about scenes: captions, questions of existence and detail, reasons for and against."""
    from edgereverie.data.scenes.draw import draw_scene
    from edgereverie.data.scenes.talk import balanced, reflective
    from edgereverie.data.scenes.world import make_scene

    for index in counting():
        rng, scene = Random(f"{purpose}/{index}"), make_scene(f"{purpose}/{index}", 0.5)
        samples = list((balanced if index % 2 else reflective)(scene, "", rng))
        yield rng.choice(samples).turns, draw_scene(scene)


def _turns(record: Sample | PreferencePair) -> tuple[Turn, ...]:
    return record.turns if isinstance(record, Sample) else (*record.turns, Turn("assistant", record.chosen))
