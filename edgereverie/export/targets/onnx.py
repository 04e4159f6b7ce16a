"""ONNX: vision encoder, token embedding and decoder as three graphs, in the folder layout that transformers.js reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import write_text
from edgereverie.errors import ExportError, MissingPackage
from edgereverie.export.base import Job, NoSettings, Profile
from edgereverie.export.graphs import (
    decoder_graph,
    embed_graph,
    load_vision,
    quiet,
    save,
    vision_features,
    vision_graph,
)
from edgereverie.export.packing import products_of, store_fp16, to_blocks, to_fp16
from edgereverie.export.probe import draw_probe, write_probe
from edgereverie.image import prepare

if TYPE_CHECKING:
    import onnx

SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_int8", "int4": "_q4"}  # as transformers.js spells them in file names
_DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "q4"}
_STEMS = {"vision": "vision_encoder", "embed": "embed_tokens", "decoder": "decoder_model_merged"}


class OnnxTarget:
    """``onnx/*.onnx`` with their data files, the configuration files of a Hugging Face folder, and the probe."""

    name = "onnx"
    quantizations = tuple(SUFFIXES)
    settings = NoSettings
    packages = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")

    def check(self, folder: ModelFolder, profile: Profile) -> None:
        quantization = profile.quantization
        for package in self.packages:
            if find_spec(package) is None:
                raise MissingPackage(package, "Exporting to ONNX", "export")
        text = folder.config["text_config"]
        if quantization in ("int8", "int4") and text["hidden_size"] % 32:
            raise ExportError(
                f"{quantization} packs blocks of 32, which do not divide this model's width {text['hidden_size']}.",
                hint="Use fp32 or fp16.",
            )

    def write(self, job: Job) -> dict[str, str]:
        folder, quantization, out, progress = job.folder, job.profile.quantization, job.out, job.progress
        (out / "onnx").mkdir()
        files: dict[str, str] = {}
        progress("exporting the vision encoder", 0.0)
        tower = load_vision(folder, job.weights)
        picture = draw_probe(folder.image)
        files |= write_probe(out, picture, vision_features(tower, prepare(picture, folder.image)))
        files |= _save(_outer(vision_graph(tower, folder.image), quantization), "vision", quantization, out)
        del tower
        progress("exporting the language model", 0.2)
        with quiet():
            model = folder.load("fp32", on="cpu")
        files |= _save(_outer(embed_graph(model), quantization), "embed", quantization, out)
        graph = decoder_graph(model)
        del model
        progress(f"packing the decoder as {quantization}", 0.6)
        files |= _save(_packed(graph, quantization), "decoder", quantization, out)
        return files | _write_companions(folder, quantization, out, files)

    def inspect(self, folder: ModelFolder, out: Path, files: Mapping[str, str]) -> dict[str, Any]:
        """Nothing: ids come from tokenizer.json itself, and the graphs are compared by running them."""
        return {}


def _outer(graph: onnx.ModelProto, quantization: str) -> onnx.ModelProto:
    """Vision encoder and embedding: at 8 and 4 bits they keep 16, for they are small and errors there reach every token."""
    if quantization == "fp32":
        return graph
    return to_fp16(graph) if quantization == "fp16" else store_fp16(graph)


def _packed(graph: onnx.ModelProto, quantization: str) -> onnx.ModelProto:
    if quantization == "fp32":
        return graph
    if quantization == "fp16":
        return to_fp16(graph)
    if quantization == "int8":
        return to_blocks(graph, 8)
    # The head decides between near words: at 4 bits it gets 8.
    head = products_of(graph, "logits")
    return to_blocks(to_blocks(graph, 4, keep=head), 8)


def _save(graph: onnx.ModelProto, role: str, quantization: str, out: Path) -> dict[str, str]:
    name = f"onnx/{_STEMS[role]}{SUFFIXES[quantization]}.onnx"
    save(graph, out / name)
    beside = {f"{role}_data": f"{name}_data"} if (out / f"{name}_data").exists() else {}
    return {role: name} | beside


def _write_companions(folder: ModelFolder, quantization: str, out: Path, files: Mapping[str, str]) -> dict[str, str]:
    """config.json and its neighbours, so that transformers.js loads the folder as it is."""
    read = {name: _read(folder.path / name) for name in ("tokenizer_config.json", "preprocessor_config.json")}
    external = {_STEMS[role.removesuffix("_data")]: 1 for role in files if role.endswith("_data")}
    config = dict(folder.config) | {
        "transformers.js_config": {"dtype": _DTYPES[quantization], "use_external_data_format": external},
    }
    generation = _read(folder.path / "generation_config.json") or {
        key: folder.config["text_config"][key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    settings = read["tokenizer_config.json"] | {"chat_template": folder.chat.jinja}
    # transformers.js inserts (side / patch)^2 + num_additional_image_tokens image tokens and, unlike transformers, does not
    # take the class token off again for "default": with these two values both count the tokens that the graph returns.
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": folder.chat.image_token,
        "patch_size": folder.image.patch,
        "num_additional_image_tokens": 0,
        "vision_feature_select_strategy": "full",
    }
    written = {
        "config": ("config.json", config),
        "generation_config": ("generation_config.json", generation),
        "tokenizer_config": ("tokenizer_config.json", settings),
        "preprocessor_config": (
            "preprocessor_config.json",
            read["preprocessor_config.json"] | {"processor_class": "LlavaProcessor"},
        ),
        "processor_config": ("processor_config.json", processor),
    }
    for name, data in written.values():
        write_text(out / name, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "tokenizer.json", folder.tokenizer().to_str(pretty=True))
    return {role: name for role, (name, _) in written.items()} | {"tokenizer": "tokenizer.json"}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


TARGET = OnnxTarget()
