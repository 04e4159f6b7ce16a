"""The decoder as an ONNX graph: one step or many, its cache as inputs and outputs.

``inputs_embeds`` (batch, sequence, width), ``attention_mask`` (batch, past + sequence), ``position_ids`` and
``past_key_values.N.key/value`` (batch, heads, past, head size) -> ``logits``, ``present.N.key/value``: the names that
transformers.js and Optimum read. Two forms of the cache:

``concat``: standard operators only. Present is past with the new tokens joined to it. Rows of a batch are padded at the
left and masked.

``shared``: onnxruntime's GroupQueryAttention. Given one buffer as past and present, it writes the new tokens into it and
copies nothing. Positions follow from the mask, so there is no ``position_ids``; rows of a batch are padded at the right,
and a row's length is the sum of its mask.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.onnx_file import Graph
from edgereverie.export.onnx_layers import MICROSOFT, Layers, Precision, Source
from edgereverie.export.onnx_text import TextModel
from edgereverie.export.weights import TEXT

Cache = Literal["concat", "shared"]
CACHE_KEY = "edgereverie.cache"  # in the graph's metadata: the form of its cache
_EMBEDDING = f"{TEXT}embed_tokens.weight"


def embed_graph(text: TextModel, source: Source, precision: Precision) -> Graph:
    """``input_ids`` (batch, sequence) -> ``inputs_embeds`` (batch, sequence, width)."""
    graph = Graph("embed_tokens")
    layers = Layers(graph, source, precision)
    ids = graph.input("input_ids", "int64", ["batch_size", "sequence_length"])
    dtype = "float32" if precision.matrices == "fp32" else "float16"
    table = graph.weight(_EMBEDDING, (text.vocabulary, text.hidden), dtype, lambda: layers.read(_EMBEDDING, dtype))
    if dtype == precision.io:
        graph.op("Gather", table, ids, axis=0, into="inputs_embeds")
    else:
        layers.cast(graph.op("Gather", table, ids, axis=0), dtype, precision.io, into="inputs_embeds")
    graph.output("inputs_embeds", precision.io, ["batch_size", "sequence_length", text.hidden])
    return graph


def check_shared(text: TextModel) -> None:
    """Raise ExportError where GroupQueryAttention does not take this model's heads."""
    if text.head % 16 or text.rotary % 16:
        raise ExportError(
            f"A shared cache needs heads whose size and turned part are multiples of 16; this model's are {text.head} "
            f"and {text.rotary}.",
            hint="Use cache: concat.",
        )


def decoder_graph(text: TextModel, source: Source, precision: Precision, cache: Cache) -> Graph:
    return _Decoder(text, source, precision, cache).build()


class _Decoder:
    def __init__(self, text: TextModel, source: Source, precision: Precision, cache: Cache) -> None:
        self.text, self.source, self.io = text, source, precision.io
        self.graph = Graph("decoder_model_merged")
        self.layers = Layers(self.graph, source, precision)
        self.shared = cache == "shared"
        # The head decides between near words: where layers have 4 bits it gets 8.
        self.head_matrices = "int8" if precision.matrices == "int4" else None
        self.graph.metadata[CACHE_KEY] = cache

    def build(self) -> Graph:
        graph, text = self.graph, self.text
        x = graph.input("inputs_embeds", self.io, ["batch_size", "sequence_length", text.hidden])
        graph.input("attention_mask", "int64", ["batch_size", "total_sequence_length"])
        if self.shared:
            self._prepare_shared()
        else:
            graph.input("position_ids", "int64", ["batch_size", "sequence_length"])
            self._prepare_concat()
        for index in range(text.layers):
            for kind in ("key", "value"):
                shape = ["batch_size", text.kv_heads, "past_sequence_length", text.head]
                graph.input(f"past_key_values.{index}.{kind}", self.io, shape)
        present = "present_sequence_length" if self.shared else "total_sequence_length"
        graph.output("logits", self.io, ["batch_size", "sequence_length", text.vocabulary])
        for index in range(text.layers):
            x = self._layer(x, index)
            for kind in ("key", "value"):
                graph.output(f"present.{index}.{kind}", self.io, ["batch_size", text.kv_heads, present, text.head])
        x = self._norm(x, f"{TEXT}{text.kind.last}")
        head = "lm_head" if "lm_head.weight" in self.source else _EMBEDDING.removesuffix(".weight")
        self.layers.linear(x, [head], matrices=self.head_matrices, into="logits")
        return graph

    def _layer(self, x: str, index: int) -> str:
        graph, kind, prefix = self.graph, self.text.kind, f"{TEXT}layers.{index}."
        read = self._norm(x, f"{prefix}input_layernorm")
        seen = self._attention(read, index)
        if kind.after is None:
            return graph.op("Add", graph.op("Add", seen, self._feed_forward(read, index)), x)
        x = graph.op("Add", x, seen)
        return graph.op("Add", x, self._feed_forward(self._norm(x, f"{prefix}{kind.after}"), index))

    def _norm(self, x: str, name: str) -> str:
        norm = self.layers.rms_norm if self.text.kind.norm == "rms" else self.layers.layer_norm
        return norm(x, name, self.text.eps)

    # Feed-forward

    def _feed_forward(self, x: str, index: int) -> str:
        prefix, experts = f"{TEXT}layers.{index}.mlp.", self.text.experts
        if experts is None or index not in experts.layers:
            return self._expert(x, prefix)
        return self._experts(x, prefix, experts.layers[index])

    def _expert(self, x: str, prefix: str) -> str:
        kind = self.text.kind
        inner = self.layers.linear(x, [prefix + name for name in kind.up])
        if kind.gated:
            gate, up = self.graph.ops("Split", inner, into=("", ""), axis=-1, num_outputs=2)
            inner = self.graph.op("Mul", self.layers.activate(gate, self.text.activation), up)
        else:
            inner = self.layers.activate(inner, self.text.activation)
        return self.layers.linear(inner, [prefix + kind.down])

    def _experts(self, x: str, prefix: str, count: int) -> str:
        """All experts, the unselected with weight zero, summed in 32 bit: standard operators, and each matrix a plain one.

        With four experts at two per token that is as fast as sorting the tokens, and a step's weights are read anyway.
        """
        graph, layers = self.graph, self.layers
        weights = graph.ops("Split", self._routes(x, prefix, count), into=("",) * count, axis=-1, num_outputs=count)
        total = ""
        for index, weight in enumerate(weights):
            out = layers.cast(self._expert(x, f"{prefix}experts.{index}."), self.io, "float32")
            share = graph.op("Mul", out, weight)
            total = graph.op("Add", total, share) if total else share
        return layers.cast(total, "float32", self.io)

    def _routes(self, x: str, prefix: str, count: int) -> str:
        """(batch, sequence, experts): each expert's share, as ``backbones._moe.route`` gives it when nothing is dropped."""
        graph, experts = self.graph, self.text.experts
        wide = self.layers.cast(x, self.io, "float32")
        logits = graph.op("MatMul", wide, self.layers.matrix([f"{prefix}wg"], "float32"))
        gates = graph.op("Softmax", logits, axis=-1)
        number = graph.constant(np.arange(count))

        def chosen(of: str) -> str:
            return graph.op("Equal", graph.op("ArgMax", of, axis=-1, keepdims=1), number)

        picked = chosen(gates)
        if experts.top_k == 2:
            rest = graph.op("Where", picked, graph.constant(-np.inf, "float32"), logits)
            picked = graph.op("Or", picked, chosen(rest))
        shares = graph.op("Where", picked, gates, graph.constant(0, "float32"))
        if experts.top_k == 1 and not experts.normalise_top1:
            return shares
        total = graph.op("ReduceSum", shares, graph.constant([-1]), keepdims=1)
        least = graph.constant(np.finfo(np.float32).eps, "float32")
        return graph.op("Div", shares, graph.op("Max", total, least))

    # Attention

    def _attention(self, x: str, index: int) -> str:
        kind, prefix = self.text.kind, f"{TEXT}layers.{index}.self_attn."
        qkv = self.layers.linear(x, [prefix + name for name in kind.qkv])
        seen = self._attend_shared(qkv, index) if self.shared else self._attend_concat(qkv, index)
        return self.layers.linear(seen, [prefix + kind.out])

    def _prepare_shared(self) -> None:
        """Lengths, and tables of the turns by position: (context, rotary / 2)."""
        graph, text = self.graph, self.text
        length = graph.op("ReduceSum", "attention_mask", graph.constant([1]), keepdims=0)
        int32 = {"found": "int64", "wanted": "int32"}
        self.lengths = self.layers.cast(graph.op("Sub", length, graph.constant([1])), **int32)
        total = graph.op("Gather", graph.op("Shape", "attention_mask"), graph.constant(1), axis=0)
        self.total = self.layers.cast(total, **int32)

        def table(turn: np.ufunc) -> np.ndarray:
            angles = np.arange(text.context, dtype=np.float32)[:, None] * text.frequencies
            return (turn(angles) * np.float32(text.magnitude)).astype(self.io)

        shape = (text.context, text.rotary // 2)
        self.tables = [
            graph.weight(f"rotary.{name}", shape, self.io, lambda turn=turn: table(turn))
            for name, turn in (("cos", np.cos), ("sin", np.sin))
        ]

    def _attend_shared(self, qkv: str, index: int) -> str:
        text, window = self.text, self.text.windows[index]
        past = [f"past_key_values.{index}.{kind}" for kind in ("key", "value")]
        seen, *_ = self.graph.ops(
            "GroupQueryAttention", qkv, "", "", *past, self.lengths, self.total, *self.tables,
            into=("", f"present.{index}.key", f"present.{index}.value"), domain=MICROSOFT,
            num_heads=text.heads, kv_num_heads=text.kv_heads, do_rotary=1, scale=text.head**-0.5,
            **({} if window is None else {"local_window_size": window}),
        )  # fmt: skip
        return seen

    def _prepare_concat(self) -> None:
        """Turns of the positions, (batch, 1, sequence, rotary / 2), and for each window what may be seen."""
        graph, text = self.graph, self.text
        place = graph.op("Unsqueeze", self.layers.cast("position_ids", "int64", "float32"), graph.constant([1, 3]))
        angles = graph.op("Mul", place, graph.constant(text.frequencies, "float32"))
        self.turns = []
        for turn in ("Cos", "Sin"):
            scaled = graph.op(turn, angles)
            if text.magnitude != 1:
                scaled = graph.op("Mul", scaled, graph.constant(text.magnitude, "float32"))
            self.turns.append(self.layers.cast(scaled, "float32", self.io))
        zero, one = graph.constant(0), graph.constant(1)
        total = graph.op("Gather", graph.op("Shape", "attention_mask"), one, axis=0)
        count = graph.op("Gather", graph.op("Shape", "inputs_embeds"), one, axis=0)
        key = graph.op("Range", zero, total, one)
        query = graph.op("Unsqueeze", graph.op("Range", graph.op("Sub", total, count), total, one), graph.constant([1]))
        real = graph.op("Unsqueeze", self.layers.cast("attention_mask", "int64", "bool"), graph.constant([1, 2]))
        if text.heads != text.kv_heads:
            real = graph.op("Unsqueeze", real, graph.constant([1]))
        before = graph.op("LessOrEqual", key, query)
        self.visible: dict[int | None, str] = {}
        for window in dict.fromkeys(text.windows):
            seen = before
            if window is not None:
                near = graph.op("Greater", key, graph.op("Sub", query, graph.constant(window)))
                seen = graph.op("And", before, near)
            self.visible[window] = graph.op("And", real, seen)

    def _attend_concat(self, qkv: str, index: int) -> str:
        """Heads that share keys and values meet them by broadcasting, so that the cache is never repeated."""
        graph, text = self.graph, self.text
        groups = text.heads // text.kv_heads
        apart = graph.constant([0, 0, text.heads + 2 * text.kv_heads, text.head])
        heads = graph.op("Transpose", graph.op("Reshape", qkv, apart), perm=[0, 2, 1, 3])
        sizes = graph.constant([text.heads + text.kv_heads, text.kv_heads])
        turned, value = graph.ops("Split", heads, sizes, into=("", ""), axis=1)
        sizes = graph.constant([text.heads, text.kv_heads])
        query, key = graph.ops("Split", self._turned(turned), sizes, into=("", ""), axis=1)
        key, value = (
            graph.op("Concat", f"past_key_values.{index}.{kind}", new, axis=2, into=f"present.{index}.{kind}")
            for kind, new in (("key", key), ("value", value))
        )
        query = graph.op("Mul", query, graph.constant(text.head**-0.5, self.io))
        swap = [0, 1, 3, 2]
        if groups > 1:
            query = graph.op("Reshape", query, graph.constant([0, text.kv_heads, groups, -1, text.head]))
            key, value = (graph.op("Unsqueeze", one, graph.constant([2])) for one in (key, value))
            swap = [0, 1, 2, 4, 3]
        scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=swap))
        # The lowest finite number: a padded row sees nothing, and infinity would make NaN of it.
        lowest = graph.constant(np.finfo(self.io).min, self.io)
        shares = graph.op("Softmax", graph.op("Where", self.visible[text.windows[index]], scores, lowest), axis=-1)
        seen = graph.op("MatMul", shares, value)
        if groups > 1:
            seen = graph.op("Reshape", seen, graph.constant([0, text.heads, -1, text.head]))
        seen = graph.op("Transpose", seen, perm=[0, 2, 1, 3])
        return graph.op("Reshape", seen, graph.constant([0, 0, text.heads * text.head]))

    def _turned(self, x: str) -> str:
        """The first ``rotary`` values of each head turned by their position, pairs half of them apart."""
        graph, half = self.graph, self.text.rotary // 2
        rest = self.text.head - 2 * half
        sizes = graph.constant([half, half, rest] if rest else [half, half])
        first, second, *untouched = graph.ops("Split", x, sizes, into=("",) * (3 if rest else 2), axis=-1)
        cos, sin = self.turns

        def mixed(kind: str, a: str, b: str) -> str:
            return graph.op(kind, graph.op("Mul", a, cos), graph.op("Mul", b, sin))

        return graph.op("Concat", mixed("Sub", first, second), mixed("Add", second, first), *untouched, axis=-1)
