"""One tiny model with random weights in the layouts that every backend runs, and an engine whose logits are set by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgereverie.registry import BACKENDS
from edgereverie.runtime import fusion
from edgereverie.runtime.engine import Feed, check_feed, feed_in_turn
from edgereverie.runtime.fusion import Feature, Reading

PROFILES = {"gguf": "gguf-f16", "onnx": "onnx-fp32"}
CORPUS = [
    "Is there a ring in the image? Yes, there is a red ring. No, there is no star.",
    "Describe the image. The image shows a small blue star at the left and two moons.",
] * 20


@pytest.fixture(scope="session")
def model_folder(untrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained starter. Its output layer is scaled up, so that its choices are far apart for every precision."""
    pytest.importorskip("transformers")
    from safetensors.torch import load_file, save_file

    out = tmp_path_factory.mktemp("models") / "random"
    out.mkdir()
    untrained(out, CORPUS, 7)
    weights = load_file(out / "model.safetensors")
    name = next(key for key in weights if key.endswith("lm_head.weight"))
    weights[name] = weights[name] * 4
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.fixture(scope="session")
def loadable(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """What the backend of that name loads; a bundle is exported when it is first asked for."""
    made: dict[str, Path] = {"torch": model_folder}

    def find(backend: str) -> Path:
        chosen = BACKENDS.get(backend)
        for package in chosen.packages:
            if find_spec(package) is None:
                pytest.skip(f"the {backend} backend needs {package}")
        target = chosen.targets[0]
        if target not in made:
            from edgereverie.backbones.base import open_folder
            from edgereverie.export.base import load_profile
            from edgereverie.export.write import export_bundle

            out = tmp_path_factory.mktemp("bundles") / target
            export_bundle(open_folder(model_folder), load_profile(PROFILES[target]), out, made_from={})
            made[target] = out
        return made[target]

    return find


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of noise, the size of the starter's input."""
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def odds_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without calibration support is the logistic function of what a short question adds, and a quarter of what the words do:
    arithmetic that a test can show."""
    figures = (Feature("verification", 1.0), Feature("grounding", 0.25, low=-2.0, high=2.0))
    monkeypatch.setattr(fusion, "PLAIN", Reading(figures))


class ScriptedStream:
    """Logits by a rule over the tokens fed so far."""

    def __init__(self, engine: ScriptedEngine, fed: Sequence[int] = ()) -> None:
        self.engine, self.fed = engine, list(fed)

    @property
    def length(self) -> int:
        return len(self.fed)

    def feed(self, ids: Sequence[int], features: np.ndarray | None = None, *, logits: str = "last") -> np.ndarray:
        check_feed(self.engine, self.length, ids, features)
        self.engine.fed += len(ids)
        rows = []
        for token in ids:
            self.fed.append(int(token))
            rows.append(self.engine.rule(tuple(self.fed)))
        return np.stack(rows if logits == "all" else rows[-1:]).astype(np.float32)

    def fork(self) -> ScriptedStream:
        return ScriptedStream(self.engine, self.fed)

    def rewind(self, length: int) -> None:
        del self.fed[length:]

    def close(self) -> None:
        pass


class ScriptedEngine:
    """An engine without weights. rule: token ids so far -> logits (vocabulary,). Counts what it was asked to do."""

    backend, device, grammar, branching = "scripted", "cpu", False, True

    def __init__(self, vocabulary: int, image_token: int, tokens: int, rule: Callable, context: int = 512) -> None:
        self.vocabulary, self.image_token, self.context, self.rule = vocabulary, image_token, context, rule
        self.tokens, self.encoded, self.fed = tokens, 0, 0

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        self.encoded += 1
        return np.zeros((self.tokens, 4), np.float32)

    def open(self) -> ScriptedStream:
        return ScriptedStream(self)

    def feed_many(self, feeds: Sequence[Feed]) -> list[np.ndarray]:
        return feed_in_turn(self, feeds)

    def close(self) -> None:
        pass
