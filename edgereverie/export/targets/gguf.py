"""GGUF: the language model for llama.cpp, with everything a runtime needs beside it.

The text model is written as architecture ``phi3`` straight from the safetensors. Types that numpy can pack are packed
here, K-quants by llama.cpp from a temporary F16 file. The bundle also carries the vision tower as ONNX, because released
llama.cpp versions encode CLIP wrongly (see ``mmproj``), and a probe that proves which encoder is right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import write_text
from edgereverie.errors import ExportError, MissingPackage
from edgereverie.export.base import Job, Profile, Progress
from edgereverie.export.gguf_file import Placed, check_complete, weight_type, write_gguf
from edgereverie.export.graphs import load_vision, vision_features, write_vision
from edgereverie.export.importance import is_due, measure_importance, write_importance
from edgereverie.export.mmproj import Packing, check_mmproj, write_mmproj
from edgereverie.export.ollama import write_modelfile
from edgereverie.export.probe import draw_probe, write_probe
from edgereverie.export.quantise import NEED_IMPORTANCE, open_llama, quantise
from edgereverie.export.vocabulary import Vocabulary, compare_ids, read_vocabulary
from edgereverie.export.weights import TEXT, Weights
from edgereverie.image import prepare
from edgereverie.strict_yaml import StrictModel

if TYPE_CHECKING:
    from gguf import GGUFWriter

_PACKED_HERE = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
_PACKED_BY_LLAMA = ("Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q2_K", *NEED_IMPORTANCE)
_K_BLOCK = 256
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


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
    packages = ("gguf", "torch", "transformers", "onnx", "onnxscript", "llama_cpp")

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
        text = folder.config["text_config"]
        if text["model_type"] != "phi3":
            raise ExportError(
                f"The language model is {text['model_type']!r}; a GGUF is written for 'phi3'.",
                hint="Export this model as ONNX.",
            )
        if (kind := rope(text)["rope_type"]) != "default":
            raise ExportError(
                f"The language model's rope type is {kind!r}; a GGUF is written for 'default'.",
                hint="Use the 4k variant of the language model, or export this one as ONNX.",
            )
        if text.get("hidden_act", "silu") != "silu":
            raise ExportError(
                f"The language model's activation is {text['hidden_act']!r}; llama.cpp's phi3 has 'silu'."
            )
        widths = {key: text[key] for key in ("hidden_size", "intermediate_size")}
        if quantization in _PACKED_BY_LLAMA and any(width % _K_BLOCK for width in widths.values()):
            # llama.cpp would put other types in their place with no more than a line in its log.
            listed = ", ".join(f"{key} {width}" for key, width in widths.items())
            raise ExportError(
                f"{quantization} packs blocks of {_K_BLOCK}, which do not divide this model's widths ({listed}).",
                hint="Use Q8_0 or Q4_0, whose blocks are 32 wide.",
            )
        check_mmproj(folder.config)

    def write(self, job: Job) -> dict[str, str]:
        folder, weights, out, progress = job.folder, job.weights, job.out, job.progress
        quantization, settings = job.profile.quantization, self.settings(**job.profile.settings)
        files: dict[str, str] = {}
        data = json.loads(folder.tokenizer().to_str())
        vocabulary = read_vocabulary(data, folder.config["text_config"]["vocab_size"], folder.chat)
        name = general_name(folder.backbone.name, vocabulary.strip_right)
        if quantization in _PACKED_HERE:
            _write_text(out / "model.gguf", folder, weights, vocabulary, name, quantization, progress)
        else:
            whole = out / ".model-f16.gguf"
            _write_text(whole, folder, weights, vocabulary, name, "F16", progress)
            importance = None
            if is_due(quantization, settings.importance):
                importance = measure_importance(folder, _linears(folder, weights), job.prompts(), progress)
                write_importance(
                    out / "importance.gguf", importance, "the tuning domain's conversations, with pictures"
                )
                files["importance"] = "importance.gguf"
            progress(f"quantizing to {quantization}", 0.5)
            quantise(whole, out / "model.gguf", quantization, importance=importance and importance.means())
            whole.unlink()
        write_mmproj(out / "mmproj.gguf", folder.config, folder.image, weights, name, progress, settings.mmproj)
        progress("writing vision.onnx", 0.0)
        tower = load_vision(folder, weights)
        write_vision(tower, folder.image, out / "vision.onnx")
        picture = draw_probe(folder.image)
        probe = write_probe(out, picture, vision_features(tower, prepare(picture, folder.image)))
        write_text(out / "tokenizer.json", folder.tokenizer().to_str(pretty=True))
        files |= write_modelfile(out, folder.chat, context=folder.context, begins=vocabulary.begins)
        files |= {
            "model": "model.gguf",
            "mmproj": "mmproj.gguf",
            "vision": "vision.onnx",
            "tokenizer": "tokenizer.json",
        } | probe
        return files | ({"vision_data": "vision.onnx_data"} if (out / "vision.onnx_data").exists() else {})

    def inspect(self, folder: ModelFolder, out: Path, files: Mapping[str, str]) -> dict[str, Any]:
        try:
            open_llama("Comparing the tokenization")
        except MissingPackage:
            return {"tokenization": {"strings": 0, "reason": "llama-cpp-python is not installed"}}
        return {"tokenization": compare_ids(folder.tokenizer(), out / files["model"], folder.chat)}


def rope(text: Mapping[str, Any]) -> dict[str, Any]:
    """Rope settings of a text config, as transformers 5 (rope_parameters) or 4 (rope_theta, rope_scaling) wrote them."""
    found = text.get("rope_parameters") or {}
    scaling = text.get("rope_scaling") or {}
    return {
        "rope_type": found.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default",
        "rope_theta": float(found.get("rope_theta") or text.get("rope_theta") or 10000.0),
        "partial_rotary_factor": float(found.get("partial_rotary_factor") or text.get("partial_rotary_factor") or 1.0),
    }


def general_name(backbone: str, strip_right: bool) -> str:
    """The name in the file's metadata. It decides behaviour: llama.cpp lets control tokens swallow the blanks after them

    exactly when the name contains "phi-3" or "phi3", because GGUF has no field for it.

    >>> general_name("starter", True), general_name("llava_phi3", False)
    ('starter-phi3', 'llava_phi_3')
    """
    named = "phi3" in backbone.lower() or "phi-3" in backbone.lower()
    if strip_right:
        return backbone if named else f"{backbone}-phi3"
    return backbone.replace("phi-3", "phi_3").replace("phi3", "phi_3")


def _write_text(
    path: Path,
    folder: ModelFolder,
    weights: Weights,
    vocabulary: Vocabulary,
    name: str,
    quantization: str,
    progress: Progress,
) -> None:
    text = folder.config["text_config"]
    tied = "lm_head.weight" not in weights
    if tied and not (text.get("tie_word_embeddings") or folder.config.get("tie_word_embeddings")):
        raise ExportError(
            f"{folder.path}: the weights lack lm_head.weight, and config.json does not tie it to the embedding.",
            hint="Copy or download the weights again.",
        )
    placed = _placed(text, quantization, tied)
    check_complete(weights, placed, (TEXT, "lm_head."))

    def describe(writer: GGUFWriter) -> None:
        _describe_model(writer, text, name, quantization)
        _describe_tokens(writer, folder, vocabulary)

    write_gguf(path, "phi3", describe, placed, weights, progress)


def _linears(folder: ModelFolder, weights: Weights) -> dict[str, tuple[str, ...]]:
    """Each tensor's linear, for the importance matrix. A tied embedding meets inputs only as the head."""
    tied = "lm_head.weight" not in weights
    placed = _placed(folder.config["text_config"], "F16", tied)
    found = {tensor.name: (tensor.source.removesuffix(".weight"),) for tensor in placed if len(tensor.shape) == 2}
    del found["token_embd.weight"]
    return found | ({"token_embd.weight": ("lm_head",)} if tied else {})


def _placed(text: Mapping[str, Any], quantization: str, tied: bool) -> list[Placed]:
    from gguf import GGMLQuantizationType

    wanted, f16 = GGMLQuantizationType[quantization], GGMLQuantizationType.F16
    # At 4 bits the two vocabulary matrices would cost most of the quality: they get 8, as llama.cpp's own mixes give more.
    outer = GGMLQuantizationType.Q8_0 if quantization == "Q4_0" else wanted
    hidden, inner, heads = text["hidden_size"], text["intermediate_size"], text["num_attention_heads"]
    grouped = text.get("num_key_value_heads") or heads
    head = text.get("head_dim") or hidden // heads
    shapes = {
        "attn_norm": (hidden,),
        "ffn_norm": (hidden,),
        "attn_qkv": ((heads + 2 * grouped) * head, hidden),
        "attn_output": (hidden, heads * head),
        "ffn_up": (2 * inner, hidden),
        "ffn_down": (hidden, inner),
    }
    rows = (text["vocab_size"], hidden)
    found = [Placed("token_embd.weight", f"{TEXT}embed_tokens.weight", rows, weight_type(rows, outer, f16))]
    for layer in range(text["num_hidden_layers"]):
        for theirs, ours in _LAYER.items():
            kind = weight_type(shapes[ours], wanted, f16)
            found.append(
                Placed(f"blk.{layer}.{ours}.weight", f"{TEXT}layers.{layer}.{theirs}.weight", shapes[ours], kind)
            )
    found.append(Placed("output_norm.weight", f"{TEXT}norm.weight", (hidden,), GGMLQuantizationType.F32))
    if not tied:
        found.append(Placed("output.weight", "lm_head.weight", rows, weight_type(rows, outer, f16)))
    return found


def _describe_model(writer: GGUFWriter, text: Mapping[str, Any], name: str, quantization: str) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    heads, turning = text["num_attention_heads"], rope(text)
    head = text.get("head_dim") or text["hidden_size"] // heads
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32 if quantization == "F32" else LlamaFileType[f"MOSTLY_{quantization}"])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(
        text.get("original_max_position_embeddings") or text["max_position_embeddings"]
    )
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(text.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_rope_dimension_count(math.floor(head * turning["partial_rotary_factor"]))
    writer.add_rope_freq_base(turning["rope_theta"])
    writer.add_sliding_window(0)  # a required key; llama.cpp ignores other values for phi3 and warns about them
    writer.add_vocab_size(text["vocab_size"])


def _describe_tokens(writer: GGUFWriter, folder: ModelFolder, vocabulary: Vocabulary) -> None:
    tokenizer, text = folder.tokenizer(), folder.config["text_config"]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    writer.add_add_bos_token(vocabulary.begins)
    writer.add_add_eos_token(False)
    end = tokenizer.token_to_id(folder.chat.end)
    ids = {
        writer.add_bos_token_id: tokenizer.token_to_id(folder.chat.begin),
        writer.add_eos_token_id: end,
        writer.add_eot_token_id: end,
        writer.add_unk_token_id: tokenizer.token_to_id("<unk>"),
        writer.add_pad_token_id: text.get("pad_token_id"),
    }
    for add, token in ids.items():
        if token is not None:
            add(token)
    writer.add_chat_template(folder.chat.jinja)


TARGET = GgufTarget()
