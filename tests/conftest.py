"""Fixtures that several test files share."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# Tests side by side would take each other's cores; read when torch and numpy are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from edgereverie.bundle import Bundle, describe_file
from edgereverie.records import ImageSpec

# How long an example takes is the machine's business: a busy one is no failure. The same examples each time, so that a run
# says something about the change it is run for; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the hub by accident."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Published data and official scorers' results, from EDGEREVERIE_GOLDEN or shared/golden beside the checkout."""
    folder = Path(os.environ.get("EDGEREVERIE_GOLDEN", CHECKOUT.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden data at {folder}; set EDGEREVERIE_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def scripted() -> ModuleType:
    """A server of OpenAI's protocol that says what a test wants it to say."""
    spec = spec_from_file_location("_scripted_teacher", CHECKOUT / "tests" / "synthesis" / "_teacher.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve(scripted: ModuleType) -> Iterator[Callable[..., Any]]:
    """``serve(answer, fault)``: such a server, closed when the test ends."""
    running: list[Any] = []

    def start(*positional: Any, **named: Any) -> Any:
        running.append(scripted.Scripted(*positional, **named))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe's text to run.yaml and give its path."""

    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _small_gguf() -> bytes:
    """204 bytes: version 3, one tensor ``w`` of 35 32-bit floats, no metadata; the places are multiples of 32."""
    header = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0)
    info = struct.pack("<Q1sIQIQ", 1, b"w", 1, 35, 0, 0)
    return (header + info).ljust(64, b"\0") + struct.pack("<35f", *range(35))


@pytest.fixture
def small_bundle(tmp_path: Path) -> Bundle:
    """A bundle with all files of a GGUF one, of known content; no model is in it."""
    folder = tmp_path / "small"
    folder.mkdir()
    contents = {
        "model": ("model.gguf", _small_gguf()),
        "mmproj": ("mmproj.gguf", _small_gguf()),
        "vision": ("vision.onnx", b"\x08\x0a\x3a\x02\x12\x00"),  # ir_version 10, and a graph with an empty name
        "tokenizer": ("tokenizer.json", b'{"version": "1.0"}'),
        "probe_image": ("probe.png", b"a picture"),
        "probe_features": ("probe.safetensors", b"its features"),
    }
    for name, content in contents.values():
        (folder / name).write_bytes(content)
    bundle = Bundle(
        folder=folder, name="small", target="gguf", quantization="Q8_0", chat="phi3",
        image=ImageSpec(size=96, patch=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)), context=512,
        files={role: describe_file(folder, name) for role, (name, _) in contents.items()},
        made_from={"base": "starter"}, parity={"passed": True, "top1": 1.0, "cases": 4},
    )  # fmt: skip
    bundle.write()
    return bundle


@pytest.fixture(scope="session")
def untrained() -> Callable[[Path, Iterable[str], int], Path]:
    """Build an untrained starter in a folder, from sentences and a seed, with weights of standard deviation 0.02.

    Large models begin so. At the starter's own, made for learning, a model that knows nothing has large logits, and every
    rounding shows.
    """

    def build(out: Path, sentences: Iterable[str], seed: int) -> Path:
        from safetensors.torch import load_file, save_file

        from edgereverie.backbones import starter

        path = starter.build(out, sentences, seed).path / "model.safetensors"
        weights = load_file(path)
        for name, weight in weights.items():
            if weight.ndim == 2 and "vision" not in name:
                weights[name] = weight * (0.02 / weight.std())
        save_file(weights, path, metadata={"format": "pt"})
        return out

    return build


@pytest.fixture(scope="session")
def tiny_folder(untrained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained starter: the real architecture and tokenizer, random weights, a few megabytes."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from edgereverie.data.scenes.talk import corpus

    out = tmp_path_factory.mktemp("models") / "tiny"
    out.mkdir()
    return untrained(out, corpus(200), 0)


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Within ``with limit(bytes):`` the system refuses to write more into any file, much as a full disk does."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def tuned_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of four QLoRA steps on the untrained starter: adapter/, checkpoints/, data/."""
    pytest.importorskip("peft")
    pytest.importorskip("bitsandbytes")
    from edgereverie import stages
    from edgereverie.recipe import Recipe

    recipe = Recipe(
        name="tuned", backbone={"model": str(tiny_folder)}, data={"scenes": {"count": 8, "diet": "reflective"}},
        train={"steps": 4, "batch_size": 2, "precision": "fp32", "log_every": 1, "learning_rate": 2e-3, "warmup": 0.0,
               "lora": {"rank": 8, "alpha": 16, "dropout": 0.0}},
    )  # fmt: skip
    out = tmp_path_factory.mktemp("runs") / "tuned"
    stages.train(recipe, out)
    return out


@pytest.fixture(scope="session")
def merged_folder(tuned_run: Path) -> Path:
    """The tuned run's adapter in its 16-bit base."""
    from edgereverie import stages

    return stages.merge(tuned_run)


@pytest.fixture(scope="session")
def exported(merged_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The merged model's bundle of a shipped profile, by the whole stage with its parity; each is exported once."""
    from edgereverie import stages

    out = tmp_path_factory.mktemp("bundles")
    return lambda profile: stages.export(merged_folder, [profile], out)[0]
