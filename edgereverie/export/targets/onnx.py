"""ONNX: vision encoder, token embedding and decoder as three graphs, in the folder layout that transformers.js reads."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError, MissingPackage
from edgereverie.export.base import Job, Profile
from edgereverie.export.graphs import load_vision, vision_features
from edgereverie.export.onnx_companions import write_companions
from edgereverie.export.onnx_decoder import Cache, check_shared, decoder_graph, embed_graph
from edgereverie.export.onnx_file import Graph
from edgereverie.export.onnx_layers import Precision
from edgereverie.export.onnx_text import TextModel, read_text
from edgereverie.export.onnx_vision import check_vision, vision_graph
from edgereverie.export.packing import BLOCK, Algorithm
from edgereverie.export.probe import draw_probe, write_probe
from edgereverie.image import prepare
from edgereverie.strict_yaml import StrictModel

# As transformers.js spells them, and in file names with a line before; 4 bits between 16-bit values have one of their own.
_DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "int8", "int4": "q4"}
_STEMS = {"vision": "vision_encoder", "embed": "embed_tokens", "decoder": "decoder_model_merged"}


class OnnxSettings(StrictModel):
    """What an ONNX profile may say besides its quantization.

    algorithm: how 4-bit blocks are found (see ``packing``), by default k_quant. cache: ``concat``, standard operators, which
    every runtime and browser has, or ``shared``, onnxruntime's attention over one buffer, which copies nothing. device:
    ``cuda`` takes and gives 16-bit values, the cache among them.
    """

    algorithm: Algorithm | None = None
    cache: Cache = "concat"
    device: Literal["cpu", "cuda"] = "cpu"


class OnnxTarget:
    """``onnx/*.onnx`` with their data files, the configuration files of a Hugging Face folder, and the probe."""

    name = "onnx"
    quantizations = tuple(_DTYPES)
    settings = OnnxSettings
    packages = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime")

    def check(self, folder: ModelFolder, profile: Profile) -> None:
        for package in self.packages:
            if find_spec(package) is None:
                raise MissingPackage(package, "Exporting to ONNX", "export")
        settings, quantization = self.settings(**profile.settings), profile.quantization
        text = read_text(folder)
        check_vision(_config(folder))
        if settings.cache == "shared":
            check_shared(text)
        if settings.device == "cuda" and quantization == "fp32":
            raise ExportError("On CUDA, onnxruntime's attention computes in 16 bits, and fp32 would run on the CPU.",
                              hint="Use fp16, int8 or int4 with device: cuda.")  # fmt: skip
        if settings.algorithm and quantization != "int4":
            raise ExportError(f"algorithm: {settings.algorithm} finds 4-bit blocks; the profile asks for {quantization}.",
                              hint="Leave it out, or use quantization: int4.")  # fmt: skip
        if quantization in ("int8", "int4"):
            _check_blocks(folder, text, quantization)

    def write(self, job: Job) -> dict[str, str]:
        folder, quantization, out = job.folder, job.profile.quantization, job.out
        settings, text = self.settings(**job.profile.settings), read_text(folder)
        around, within = _precisions(quantization, settings)
        dtype = "q4f16" if (quantization, settings.device) == ("int4", "cuda") else _DTYPES[quantization]
        (out / "onnx").mkdir()
        job.progress("looking at the probe", 0.0)
        tower, picture = load_vision(folder, job.weights), draw_probe(folder.image)
        files = write_probe(out, picture, vision_features(tower, prepare(picture, folder.image)))
        del tower
        graphs = {
            "vision": lambda: vision_graph(_config(folder), folder.image, job.weights, around),
            "embed": lambda: embed_graph(text, job.weights, around),
            "decoder": lambda: decoder_graph(text, job.weights, within, settings.cache),
        }
        for role, build in graphs.items():
            files |= _save(build(), role, dtype, job)
        data = {_STEMS[role]: sum(name.startswith(f"{role}_data") for name in files) for role in _STEMS}
        return files | write_companions(folder, text, out, dtype, {stem: count for stem, count in data.items() if count},
                                        half_cache=within.io == "float16")  # fmt: skip

    def inspect(self, folder: ModelFolder, out: Path, files: Mapping[str, str]) -> dict[str, Any]:
        """Nothing: ids come from tokenizer.json itself, and the graphs are compared by running them."""
        return {}


def _config(folder: ModelFolder) -> Any:
    from transformers import LlavaConfig

    return LlavaConfig.from_dict(dict(folder.config))


def _check_blocks(folder: ModelFolder, text: TextModel, quantization: str) -> None:
    inner = int(_config(folder).text_config.intermediate_size)
    widths = {"hidden_size": text.hidden, "heads x head size": text.heads * text.head, "intermediate_size": inner}
    if any(width % BLOCK for width in widths.values()):
        listed = ", ".join(f"{key} {width}" for key, width in widths.items())
        raise ExportError(
            f"{quantization} packs blocks of {BLOCK}, which do not divide this model's widths ({listed}).",
            hint="Use fp32 or fp16.",
        )


def _precisions(quantization: str, settings: OnnxSettings) -> tuple[Precision, Precision]:
    """Of vision encoder and embedding, and of the decoder.

    At 8 and 4 bits the first two keep 16: they are small, and an error there reaches every token.
    """
    algorithm = settings.algorithm or "k_quant"
    if settings.device == "cuda":
        return Precision("float16", "fp16"), Precision("float16", quantization, algorithm, False)
    around = quantization if quantization in ("fp32", "fp16") else "widened"
    return Precision("float32", around), Precision("float32", quantization, algorithm)


def _save(graph: Graph, role: str, dtype: str, job: Job) -> dict[str, str]:
    name = f"{_STEMS[role]}{'' if dtype == 'fp32' else '_' + dtype}.onnx"
    data = graph.save(job.out / "onnx" / name, job.progress)
    beside = {f"{role}_data" + (f"_{index}" if index else ""): f"onnx/{file}" for index, file in enumerate(data)}
    return {role: f"onnx/{name}"} | beside


TARGET = OnnxTarget()
