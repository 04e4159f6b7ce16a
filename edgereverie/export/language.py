"""The language model as a GGUF file of its own, which every llama.cpp loads: architecture, weights, vocabulary, template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.architectures._plan import Plan
from edgereverie.export.architectures.base import Architecture, Language, find_architecture
from edgereverie.export.base import Progress
from edgereverie.export.gguf_file import check_complete, write_gguf
from edgereverie.export.vocabulary import Vocabulary, read_vocabulary
from edgereverie.export.weights import TEXT, Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter

# What llama.cpp looks up when a name makes it strip blanks; it cannot load a file without one of them.
_STRIPPED = (b"</s>", b"<unk>", b"<s>", b"<|endoftext|>")


def write_language(path: Path, folder: ModelFolder, weights: Weights, quantization: str, progress: Progress) -> None:
    """Write ``path`` in one of the types that are packed here (``F32``, ``F16``, ``Q8_0`` ...), tensor by tensor.

    Raises ExportError for what no architecture carries exactly, before anything is written, and for damaged weights.
    """
    architecture, model = find_architecture(folder)
    if "lm_head.weight" not in weights and not model.tied:
        raise ExportError(
            f"{folder.path}: the weights lack lm_head.weight, and config.json does not tie it to the embedding.",
            hint="Copy or download the weights again.",
        )
    vocabulary = folder_vocabulary(folder)
    plan = Plan.of(quantization)
    architecture.place(plan, model, weights)
    check_complete(weights, plan.tensors, (TEXT, "lm_head."))

    def describe(writer: GGUFWriter) -> None:
        _describe_model(writer, architecture, model, language_name(folder, vocabulary), quantization)
        _describe_tokens(writer, folder, vocabulary)

    write_gguf(path, architecture.name, describe, plan.tensors, weights, progress)


def language_linears(folder: ModelFolder, weights: Weights) -> dict[str, tuple[str, ...]]:
    """By name of a matrix in the file, the linears of the model whose inputs it meets: one, or each expert's of a stack.

    Routers are left out, which stay in 32 bits, and the matrices that only an architecture asks for. An embedding meets
    inputs where it is the head.
    """
    architecture, model = find_architecture(folder)
    plan = Plan.of("F16")
    architecture.place(plan, model, weights)
    found = {
        tensor.name: tuple(source.removesuffix(".weight") for source in tensor.sources)
        for tensor in plan.tensors
        if len(tensor.shape) > 1 and tensor.sources and ".ffn_gate_inp." not in tensor.name
    }
    del found["token_embd.weight"]
    return found | {"output.weight" if "output.weight" in found else "token_embd.weight": ("lm_head",)}


def idle_matrices(folder: ModelFolder, weights: Weights) -> dict[str, tuple[int, int]]:
    """By name, number and width of the matrices that an architecture asks for and the model lacks: zeros, whatever they meet."""
    architecture, model = find_architecture(folder)
    plan = Plan.of("F16")
    architecture.place(plan, model, weights)
    return {
        tensor.name: (tensor.shape[0] if len(tensor.shape) > 2 else 1, tensor.shape[-1])
        for tensor in plan.tensors
        if len(tensor.shape) > 1 and not tensor.sources
    }


def folder_vocabulary(folder: ModelFolder) -> Vocabulary:
    """The folder's tokenizer as GGUF's. Raises ExportError for one that GGUF cannot say."""
    rows = folder.config["text_config"]["vocab_size"]
    return read_vocabulary(json.loads(folder.tokenizer().to_str()), rows, folder.chat)


def language_name(folder: ModelFolder, vocabulary: Vocabulary) -> str:
    """``general.name`` of the files made from this folder."""
    strips = vocabulary.strip_right and all(token in vocabulary.tokens for token in _STRIPPED)
    return general_name(folder.backbone.name, strips)


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


def _describe_model(
    writer: GGUFWriter, architecture: Architecture, model: Language, name: str, quantization: str
) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType, RopeScalingType

    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(LlamaFileType.ALL_F32 if quantization == "F32" else LlamaFileType[f"MOSTLY_{quantization}"])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.width)
    writer.add_feed_forward_length(model.inner)
    writer.add_block_count(model.layers)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.grouped)
    writer.add_layer_norm_rms_eps(model.eps)
    writer.add_rope_freq_base(model.theta)
    if model.rope == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(model.factor)
    writer.add_vocab_size(model.rows)
    architecture.describe(writer, model)


def _describe_tokens(writer: GGUFWriter, folder: ModelFolder, vocabulary: Vocabulary) -> None:
    tokenizer, text, chat = folder.tokenizer(), folder.config["text_config"], folder.chat
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "llama":
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.space_prefix)
    else:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(vocabulary.begins)
    writer.add_add_eos_token(False)
    end = tokenizer.token_to_id(chat.end)
    # Without an id of its own llama.cpp takes a fixed one to begin texts with, which is some word in a byte-level vocabulary.
    begin = tokenizer.token_to_id(chat.begin) if chat.begin else text.get("bos_token_id")
    ids = {
        writer.add_bos_token_id: end if begin is None else begin,
        writer.add_eos_token_id: end,
        writer.add_eot_token_id: end,
        writer.add_unk_token_id: vocabulary.unknown,
        writer.add_pad_token_id: text.get("pad_token_id"),
    }
    for add, token in ids.items():
        if token is not None:
            add(token)
    writer.add_chat_template(chat.jinja)
