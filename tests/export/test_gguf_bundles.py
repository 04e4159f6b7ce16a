"""Whole bundles of other kinds than the starter, by the public road: written, run by our runtime, compared with the model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from edgereverie import stages
from edgereverie.bundle import Bundle

_spec = importlib.util.spec_from_file_location("_bundle_models", Path(__file__).with_name("_models.py"))
_models = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _models
_spec.loader.exec_module(_models)


@pytest.mark.parametrize(
    ("kind", "architecture", "centred"),
    [
        ("LLaVA-1.5 in LLaVA's layout", "llama", False),
        ("MoE-LLaVA on Qwen", "step35", False),
        ("MoE-LLaVA on StableLM-2 with SigLIP", "phimoe", True),
    ],
)
def test_bundles_run_and_say_what_their_model_says(kind, architecture, centred, tmp_path):
    """The features that are fed belong to the language model's file: without mean where its residual stream has none."""
    from gguf import GGUFReader
    from safetensors.numpy import load_file

    source = _models.KINDS[kind][1](tmp_path / "source")
    (folder,) = stages.export(source, ["gguf-f16"], tmp_path / "out", allow_parity_failure=True)
    bundle = Bundle.load(folder)
    bundle.check()
    assert GGUFReader(bundle.file("model")).fields["general.architecture"].contents() == architecture
    assert bundle.parity["image_cases"] >= 3 and bundle.parity["top1"] >= 0.97, bundle.parity
    assert bundle.parity["mean_kl"] < 1e-3
    features = load_file(bundle.file("probe_features"))["features"]
    assert (np.abs(features.mean(-1)).max() < 1e-5) == centred
    assert ("mmproj" in bundle.files) == (not bundle.parity["limits"])


def test_where_the_model_looks_back_less_the_bundle_says_so(tmp_path):
    """Phi-3's sliding window of 511 tokens in a context of 512."""
    from edgereverie.backbones.base import open_folder
    from edgereverie.export.architectures.base import find_architecture
    from edgereverie.export.targets.gguf import _limits

    folder = open_folder(_models.phi3_own(tmp_path / "m"))
    (limit,) = _limits(folder, *find_architecture(folder))
    assert "Texts longer than 511 tokens" in limit and "'phi3' looks at all" in limit
