"""GGUF: the language model for llama.cpp, with everything a runtime needs beside it.

The text model is written straight from the safetensors, in the architecture that carries it exactly. Types that numpy can
pack are packed here, K-quants and IQ types by llama.cpp from a temporary 16-bit file. The bundle also carries the vision
tower as ONNX, because released llama.cpp versions encode CLIP wrongly (see ``mmproj``), and a probe that proves which
encoder is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import write_text
from edgereverie.errors import ExportError, MissingPackage
from edgereverie.export.architectures.base import Architecture, Language, find_architecture
from edgereverie.export.base import Job, Profile
from edgereverie.export.graphs import load_vision, vision_features, write_vision
from edgereverie.export.importance import is_due, measure_importance, write_importance
from edgereverie.export.language import (
    folder_vocabulary,
    idle_matrices,
    language_linears,
    language_name,
    write_language,
)
from edgereverie.export.mmproj import Packing, check_mmproj, write_mmproj
from edgereverie.export.ollama import write_modelfile
from edgereverie.export.probe import draw_probe, write_probe
from edgereverie.export.quantise import NEED_IMPORTANCE, open_llama, quantise
from edgereverie.export.tokenization import compare_ids
from edgereverie.image import prepare
from edgereverie.strict_yaml import StrictModel

_PACKED_HERE = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
_PACKED_BY_LLAMA = (
    "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
    "IQ4_NL", "IQ4_XS", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS",
)  # fmt: skip
_K_BLOCK = 256


class GgufSettings(StrictModel):
    """importance: quantize by what the inputs weigh in the tuning domain, where llama.cpp packs; by default where bits are few.
    mmproj: how the vision file's matrices are packed.
    """

    importance: bool | None = None
    mmproj: Packing = "f16"


class GgufTarget:
    """``model.gguf``, ``mmproj.gguf``, ``vision.onnx``, ``tokenizer.json`` and the probe."""

    name = "gguf"
    quantizations = (*_PACKED_HERE, *_PACKED_BY_LLAMA)
    settings = GgufSettings
    packages = ("gguf", "torch", "transformers", "onnx", "llama_cpp")

    def check(self, folder: ModelFolder, profile: Profile) -> None:
        quantization, settings = profile.quantization, self.settings(**profile.settings)
        if quantization in NEED_IMPORTANCE and not is_due(quantization, settings.importance):
            raise ExportError(
                f"{quantization} cannot be chosen well without an importance matrix, and the profile switches it off.",
                hint="Take importance: false out of the profile's settings, or quantize to Q3_K_M.",
            )
        for package in self.packages:
            if find_spec(package) is None and (package != "llama_cpp" or quantization in _PACKED_BY_LLAMA):
                raise MissingPackage(package.replace("llama_cpp", "llama-cpp-python"), "Exporting to GGUF", "export")
        _, model = find_architecture(folder)
        if quantization in _PACKED_BY_LLAMA:
            _check_blocks(model, quantization)
        folder_vocabulary(folder)

    def write(self, job: Job) -> dict[str, str]:
        folder, out, progress = job.folder, job.out, job.progress
        architecture, model = find_architecture(folder)
        settings, vocabulary = self.settings(**job.profile.settings), folder_vocabulary(folder)
        files = {"vision": "vision.onnx", "tokenizer": "tokenizer.json"} | _write_model(job)
        weights = job.weights.changed(architecture.changes(model))
        if mmproj_fault(folder) is None:
            name = language_name(folder, vocabulary)
            write_mmproj(out / "mmproj.gguf", folder.config, folder.image, weights, name, progress, settings.mmproj)
            files |= {"mmproj": "mmproj.gguf"}
            files |= write_modelfile(out, folder.chat, context=folder.context, begins=vocabulary.begins)
        progress("writing vision.onnx", 0.0)
        tower = load_vision(folder, weights)
        write_vision(tower, folder.image, out / "vision.onnx")
        picture = draw_probe(folder.image)
        files |= write_probe(out, picture, vision_features(tower, prepare(picture, folder.image)))
        write_text(out / "tokenizer.json", folder.tokenizer().to_str(pretty=True))
        return files | ({"vision_data": "vision.onnx_data"} if (out / "vision.onnx_data").exists() else {})

    def inspect(self, folder: ModelFolder, out: Path, files: Mapping[str, str]) -> dict[str, Any]:
        """tokenization: how often llama.cpp's ids are the tokenizer's. limits: where the bundle is less than the model."""
        found: dict[str, Any] = {"limits": _limits(folder, *find_architecture(folder))}
        try:
            open_llama("Comparing the tokenization")
        except MissingPackage:
            return found | {"tokenization": {"strings": 0, "reason": "llama-cpp-python is not installed"}}
        return found | {"tokenization": compare_ids(folder.tokenizer(), out / files["model"], folder.chat)}


def mmproj_fault(folder: ModelFolder) -> str | None:
    """Why the folder's tower and projector have no ``mmproj.gguf``; None when they have. Our runtimes need none."""
    try:
        check_mmproj(folder.config)
    except ExportError as error:
        return str(error)
    return None


def _write_model(job: Job) -> dict[str, str]:
    """The language model, and the importance matrix where it was quantized by one; by role."""
    quantization, settings = job.profile.quantization, TARGET.settings(**job.profile.settings)
    final = job.out / "model.gguf"
    files = {"model": final.name}
    if quantization in _PACKED_HERE:
        write_language(final, job.folder, job.weights, quantization, job.progress)
        return files
    # bfloat16 weights are kept as they are; what llama.cpp packs is then rounded once.
    kept = "BF16" if job.folder.dtype() == "bfloat16" else "F16"
    whole = job.out / f".model-{kept.lower()}.gguf"
    write_language(whole, job.folder, job.weights, kept, job.progress)
    means = None
    if is_due(quantization, settings.importance):
        linears = language_linears(job.folder, job.weights)
        importance = measure_importance(job.folder, linears, job.prompts(), job.progress)
        write_importance(job.out / "importance.gguf", importance, "the tuning domain's conversations, with pictures")
        files["importance"] = "importance.gguf"
        # At two bits llama.cpp wants to know of every matrix, of those that are all zeros too.
        idle = idle_matrices(job.folder, job.weights)
        means = importance.means() | {name: np.ones(shape, np.float32) for name, shape in idle.items()}
    job.progress(f"quantizing to {quantization}", 0.5)
    quantise(whole, final, quantization, importance=means)
    whole.unlink()
    return files


def _check_blocks(model: Language, quantization: str) -> None:
    widths = {
        "hidden_size": model.width,
        "intermediate_size": model.inner,
        "num_attention_heads x head_dim": model.heads * model.head,
    }
    if any(width % _K_BLOCK for width in widths.values()):
        # llama.cpp would put other types in their place with no more than a line in its log.
        listed = ", ".join(f"{key} {width}" for key, width in widths.items())
        raise ExportError(
            f"{quantization} packs blocks of {_K_BLOCK}, which do not divide this model's widths ({listed}).",
            hint="Use Q8_0 or Q4_0, whose blocks are 32 wide.",
        )


def _limits(folder: ModelFolder, architecture: Architecture, model: Language) -> list[str]:
    found = []
    if model.window is not None and model.window < model.context and not architecture.windowed:
        found.append(
            f"Texts longer than {model.window:,} tokens: llama.cpp's {architecture.name!r} looks at all of them, the "
            f"model in PyTorch at the last {model.window:,}."
        )
    if (fault := mmproj_fault(folder)) is not None:
        found.append(f"There is no mmproj.gguf; other tools run the text part only. {fault}")
    return found


TARGET = GgufTarget()
