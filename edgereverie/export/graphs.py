"""The three graphs of an ONNX export: vision encoder, token embedding, and decoder with its cache as inputs and outputs.

Names of inputs and outputs are those that other tools read (transformers.js, Optimum). Graphs are exported at opset 20,
which old runtimes know too.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.weights import PROJECTOR, VISION, Weights
from edgereverie.records import ImageSpec

if TYPE_CHECKING:
    import onnx
    from torch import nn

OPSET = 20
INLINE_BYTES = 512 << 20  # larger graphs keep their weights in a file beside; protobuf itself ends at 2 GiB


def load_vision(folder: ModelFolder, weights: Weights) -> nn.Module:
    """Vision tower and projector alone, float32, as one module from pixel values to features; no language model is loaded."""
    import torch
    from torch import nn
    from transformers import AutoModel, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    config = LlavaConfig.from_dict(dict(folder.config))

    class VisionEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision = AutoModel.from_config(config.vision_config)
            self.projector = LlavaMultiModalProjector(config)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            states = self.vision(pixel_values, output_hidden_states=True).hidden_states
            layers = config.vision_feature_layer
            layers = [layers] if isinstance(layers, int) else layers
            first = 1 if config.vision_feature_select_strategy == "default" else 0
            return self.projector(torch.cat([states[layer][:, first:] for layer in layers], dim=-1))

    with torch.device("meta"):
        module = VisionEncoder()
    parameters = dict(module.named_parameters())
    for name in parameters:
        stable = (
            name.replace("vision.", VISION, 1)
            if name.startswith("vision.")
            else name.replace("projector.", PROJECTOR, 1)
        )
        owner = module.get_submodule(name.rpartition(".")[0])
        values = torch.from_numpy(weights.array(stable))
        if values.shape != parameters[name].shape:
            found, expected = tuple(values.shape), tuple(parameters[name].shape)
            raise ExportError(
                f"{weights.path}: {stable} has shape {found}, config.json says {expected}.",
                hint="Take config.json and the weights from the same model.",
            )
        setattr(owner, name.rpartition(".")[2], nn.Parameter(values, requires_grad=False))
    for name, buffer in list(module.named_buffers()):
        # The only buffers are position counters.
        owner = module.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], torch.arange(buffer.numel(), dtype=buffer.dtype).reshape(buffer.shape))
    return module.eval()


def vision_features(encoder: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Features (image tokens, width) of one prepared picture (3, size, size), by torch."""
    import torch

    with torch.no_grad():
        return encoder(torch.from_numpy(pixels)[None])[0].numpy()


def write_vision(encoder: nn.Module, image: ImageSpec, path: Path) -> None:
    """``pixel_values`` (batch, 3, size, size) -> ``image_features`` (batch, image tokens, width)."""
    save(vision_graph(encoder, image), path)


def vision_graph(encoder: nn.Module, image: ImageSpec) -> onnx.ModelProto:
    import torch

    sample = torch.zeros(2, 3, image.size, image.size)
    return to_onnx(encoder, (sample,), ["pixel_values"], ["image_features"], ({0: "batch_size"},))


def embed_graph(model: nn.Module) -> onnx.ModelProto:
    """``input_ids`` (batch, sequence) -> ``inputs_embeds`` (batch, sequence, width)."""
    import torch

    sample = torch.zeros(2, 3, dtype=torch.int64)
    axes = ({0: "batch_size", 1: "sequence_length"},)
    return to_onnx(model.model.language_model.embed_tokens, (sample,), ["input_ids"], ["inputs_embeds"], axes)


def decoder_graph(model: nn.Module) -> onnx.ModelProto:
    """One step or many, with or without a past.

    ``inputs_embeds``, ``attention_mask`` (batch, past + sequence), ``position_ids``, ``past_key_values.N.key/value``
    (batch, heads, past, head size) -> ``logits``, ``present.N.key/value``.
    """
    import torch
    from torch import nn
    from transformers import DynamicCache

    text = model.config.text_config
    layers, heads = text.num_hidden_layers, text.num_key_value_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.language_model, self.lm_head = model.model.language_model, model.lm_head

        def forward(
            self, inputs_embeds: Any, attention_mask: Any, position_ids: Any, past: list[Any]
        ) -> tuple[Any, ...]:
            cache = DynamicCache(ddp_cache_data=[(past[2 * i], past[2 * i + 1]) for i in range(layers)])
            hidden = self.language_model(
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            present = [state for layer in cache.layers for state in (layer.keys, layer.values)]
            return (self.lm_head(hidden), *present)

    # Every dynamic size is larger than 1 and differs from the others: the exporter takes a 1 for a constant.
    batch, sequence, past = 2, 3, 5
    sample = (
        torch.zeros(batch, sequence, text.hidden_size),
        torch.ones(batch, past + sequence, dtype=torch.int64),
        torch.arange(past, past + sequence)[None].expand(batch, -1).contiguous(),
        [torch.zeros(batch, heads, past, head) for _ in range(2 * layers)],
    )
    cache_axes = {0: "batch_size", 2: "past_sequence_length"}
    axes = (
        {0: "batch_size", 1: "sequence_length"},
        {0: "batch_size", 1: "total_sequence_length"},
        {0: "batch_size", 1: "sequence_length"},
        [cache_axes] * (2 * layers),
    )
    kinds = [f"{i}.{kind}" for i in range(layers) for kind in ("key", "value")]
    inputs = ["inputs_embeds", "attention_mask", "position_ids", *(f"past_key_values.{kind}" for kind in kinds)]
    graph = to_onnx(Decoder().eval(), sample, inputs, ["logits", *(f"present.{kind}" for kind in kinds)], axes)
    for output in graph.graph.output[1:]:
        output.type.tensor_type.shape.dim[2].dim_param = "total_sequence_length"
    return graph


def to_onnx(
    module: nn.Module, sample: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str], axes: tuple[Any, ...]
) -> onnx.ModelProto:
    """Export ``module``. axes: for each input, names of its dynamic dimensions by position; all others are fixed."""
    import torch

    def dynamic(named: Any) -> Any:
        return (
            [dynamic(one) for one in named]
            if isinstance(named, list)
            else {axis: torch.export.Dim.DYNAMIC for axis in named}
        )

    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            sample,
            dynamo=True,
            dynamic_shapes=tuple(dynamic(one) for one in axes),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
        graph = program.model_proto
    flat = [named for one in axes for named in (one if isinstance(one, list) else [one])]
    _name_axes(graph, flat)
    _strip(graph)
    return graph


def save(graph: onnx.ModelProto, path: Path) -> None:
    """Write the graph; weights beyond INLINE_BYTES go to ``<file>.onnx_data`` beside it."""
    import onnx

    size = graph.ByteSize()
    if size > INLINE_BYTES:
        onnx.save_model(
            graph,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=f"{path.name}_data",
            size_threshold=1024,
            convert_attribute=False,
        )
        path.with_name(f"{path.name}_data").chmod(0o644)
    else:
        path.write_bytes(graph.SerializeToString(deterministic=True))


def _name_axes(graph: onnx.ModelProto, axes: Sequence[Mapping[int, str]]) -> None:
    """Give the exporter's s10, s29 ... their names, wherever they stand."""
    names: dict[str, str] = {}
    for value, named in zip(graph.graph.input, axes, strict=True):
        for axis, name in named.items():
            found = value.type.tensor_type.shape.dim[axis]
            if found.HasField("dim_param"):
                names[found.dim_param] = name
            found.dim_param = name
    for value in (*graph.graph.output, *graph.graph.value_info):
        for found in value.type.tensor_type.shape.dim:
            if found.dim_param in names:
                found.dim_param = names[found.dim_param]


def _strip(graph: onnx.ModelProto) -> None:
    """Remove what only the exporter's authors read: stack traces, source files and intermediate shapes."""
    for holder in (graph, graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.functions):
        del holder.metadata_props[:]
    for node in graph.graph.node:
        node.doc_string = ""
    for tensor in graph.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del graph.graph.value_info[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Progress bars, reports, loggers and deprecation warnings of torch and transformers stay off the console.

    Errors come as exceptions all the same.
    """
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch._dynamo")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
