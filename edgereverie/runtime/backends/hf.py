"""PyTorch: runs a model folder as it is, and a model in training between two steps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgereverie.errors import BackendError
from edgereverie.runtime.choosing import asked_for, on_device
from edgereverie.runtime.engine import Feed, check_feed, feed_in_turn, no_grammar, require_packages
from edgereverie.runtime.grammar import Constraint

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import DynamicCache


class HfEngine:
    """A LLaVA model of transformers behind the engine contract.

    model: the module, also one that is wrapped by an adapter or being trained; it is used as it stands, so put it in eval
    mode first. context: longest sequence in tokens.
    """

    backend = "hf"
    grammar = False
    branching = False

    def __init__(self, model: nn.Module, context: int) -> None:
        self._model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._embedding = self._model.get_input_embeddings()
        self.context = context
        self.image_token = int(self._model.config.image_token_id)
        self.vocabulary = int(self._model.lm_head.out_features)
        self.device = self._embedding.weight.device.type

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        inner = self._model.model
        weight = next(inner.vision_tower.parameters())
        batch = torch.from_numpy(np.asarray(pixels, dtype=np.float32))[None].to(weight.device, weight.dtype)
        with torch.inference_mode():
            # get_image_features picks the hidden layer and drops the class token as the model's config says.
            found = inner.get_image_features(batch, return_dict=True).pooler_output[0]
        return found.float().cpu().numpy()

    def open(self) -> HfStream:
        return HfStream(self)

    def feed_many(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        return feed_in_turn(self, feeds)

    def constraint(self, grammar: str) -> Constraint:
        no_grammar(self)

    def close(self) -> None:
        """Let go of the weights; they are freed when nobody else holds the model."""
        self._model = self._embedding = None

    def _run(self, ids: np.ndarray, features: np.ndarray | None, cache: DynamicCache, every: bool) -> torch.Tensor:
        import torch

        weight = self._embedding.weight
        tokens = torch.from_numpy(ids).to(weight.device)
        rows = self._embedding(tokens)
        if features is not None:
            if features.shape[1] != rows.shape[1]:
                raise BackendError(
                    f"Image features are {features.shape[1]} wide, the language model is {rows.shape[1]} wide.",
                    hint="Use features that this same model encoded.",
                )
            rows[tokens == self.image_token] = torch.from_numpy(features).to(rows.device, rows.dtype)
        past = cache.get_seq_length()
        positions = torch.arange(past, past + len(ids), device=weight.device)[None]
        hidden = self._model.model.language_model(
            inputs_embeds=rows[None], position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state[0]
        return self._model.lm_head(hidden if every else hidden[-1:]).float()


@dataclass(eq=False)
class HfStream:
    """Tokens fed so far, as transformers' DynamicCache.

    The cache grows by concatenation, never in place, so a fork shares the tensors and the two drift apart as they grow.
    It is made without a config: layers that forget (sliding windows) could not be rewound.
    """

    engine: HfEngine
    length: int = 0
    _cache: DynamicCache | None = None
    _closed: bool = False

    def feed(
        self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: Literal["last", "all"] = "last"
    ) -> np.ndarray:
        import torch
        from transformers import DynamicCache

        self._assert_open()
        array = check_feed(self.engine, self.length, ids, features)
        with torch.inference_mode():
            grown = _share(self._cache) if self._cache is not None else DynamicCache()
            out = self.engine._run(array, features, grown, logits == "all").cpu().numpy()
        self._cache = grown
        self.length += len(array)
        return out

    def fork(self) -> HfStream:
        self._assert_open()
        return HfStream(self.engine, self.length, _share(self._cache) if self._cache is not None else None)

    def rewind(self, length: int) -> None:
        self._assert_open()
        if not 0 <= length <= self.length:
            raise BackendError(f"Cannot rewind a stream of {self.length} tokens to {length}.")
        if length == 0:
            self._cache = None
        elif length < self.length:
            self._cache.crop(length - self.length)  # a negative number is how many to forget
        self.length = length

    def close(self) -> None:
        self._cache, self._closed = None, True

    def _assert_open(self) -> None:
        if self._closed:
            raise BackendError("This stream is closed.", hint="Open a new one.")


def _share(cache: DynamicCache) -> DynamicCache:
    """A second cache over the same tensors."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


@dataclass(frozen=True, slots=True)
class HfBackend:
    name: str = "hf"
    targets: tuple[str, ...] = ("torch",)
    packages: tuple[str, ...] = ("torch", "transformers")
    extra: str = "train"

    def load(self, path: Path, *, precise: bool = False, device: str = "auto") -> HfEngine:
        from edgereverie.backbones import base

        require_packages(self)
        folder = base.open_folder(path)

        def load(place: str) -> HfEngine:
            return HfEngine(folder.load("bf16" if place != "cpu" and not precise else "fp32", on=place), folder.context)

        return on_device(asked_for(device), self.lacks_cuda(), load, path.name)

    def lacks_cuda(self) -> str:
        from edgereverie.backbones import base

        return "" if base.device() == "cuda" else "torch sees no card"


BACKEND = HfBackend()
