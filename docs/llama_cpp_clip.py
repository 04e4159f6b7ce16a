"""Minimal reproduction: llama.cpp's mtmd encodes pictures wrongly for CLIP towers with a class token (LLaVA-1.5's kind).

    pip install llama-cpp-python gguf torch transformers numpy
    python llama_cpp_clip.py

A CLIP tower of random weights and a two-layer projector are written as an mmproj GGUF. The same picture goes through mtmd
and through transformers. Printed are, per image token, the cosines between mtmd's features and (a) what LLaVA defines, (b)
the same in transformers with the class token moved behind the patches and positions counted from the first patch. A right
mtmd prints about 1 for (a).
"""

import ctypes
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from gguf import GGUFWriter
from llama_cpp import mtmd_cpp as mtmd
from transformers import CLIPVisionConfig, CLIPVisionModel

SIDE, PATCH, LAYERS, WIDE, TEXT = 112, 14, 6, 128, 96
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PARTS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_out": "self_attn.out_proj", "ln1": "layer_norm1", "ln2": "layer_norm2", "ffn_up": "mlp.fc1",
         "ffn_down": "mlp.fc2"}  # fmt: skip


def make_model():
    torch.manual_seed(0)
    tower = CLIPVisionModel(CLIPVisionConfig(
        hidden_size=WIDE, intermediate_size=4 * WIDE, num_hidden_layers=LAYERS, num_attention_heads=4, image_size=SIDE,
        patch_size=PATCH, hidden_act="quick_gelu", projection_dim=WIDE)).eval()  # fmt: skip
    projector = torch.nn.Sequential(
        torch.nn.Linear(WIDE, TEXT), torch.nn.GELU(approximate="tanh"), torch.nn.Linear(TEXT, TEXT)
    )
    for name, weight in [*tower.named_parameters(), *projector.named_parameters()]:
        if "norm" not in name and "layrnorm" not in name:
            torch.nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.5)
    return getattr(tower, "vision_model", tower), projector


def write_mmproj(path, tower, projector):
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_use_gelu(False)  # quick-GELU
    writer.add_vision_image_size(SIDE)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(WIDE)
    writer.add_vision_feed_forward_length(4 * WIDE)
    writer.add_vision_block_count(LAYERS)
    writer.add_vision_projection_dim(TEXT)
    writer.add_vision_head_count(4)
    writer.add_vision_attention_layernorm_eps(1e-5)
    writer.add_vision_image_mean(list(MEAN))
    writer.add_vision_image_std(list(STD))
    writer.add_array("clip.vision.feature_layer", [LAYERS - 1])  # LLaVA reads the last layer but one

    def add(name, tensor):
        writer.add_tensor(name, np.ascontiguousarray(tensor.detach().float().numpy()))

    add("v.class_embd", tower.embeddings.class_embedding)
    add("v.patch_embd.weight", tower.embeddings.patch_embedding.weight)
    add("v.position_embd.weight", tower.embeddings.position_embedding.weight)
    modules = {"v.pre_ln": tower.pre_layrnorm, "mm.0": projector[0], "mm.2": projector[2]}
    for index, layer in enumerate(tower.encoder.layers):
        modules |= {f"v.blk.{index}.{ours}": layer.get_submodule(theirs) for ours, theirs in PARTS.items()}
    for name, module in modules.items():
        add(f"{name}.weight", module.weight)
        add(f"{name}.bias", module.bias)
    finish(writer)


def write_language_model(path):
    """mtmd wants one; without weights is enough, for nothing is asked of it."""
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(2)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def features(tower, projector, picture, *, misplaced):
    """What LLaVA defines, or (misplaced) what clip_graph_llava::build computes."""
    pixels = (torch.from_numpy(picture).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    patches = tower.embeddings.patch_embedding(pixels.permute(2, 0, 1)[None]).flatten(2).transpose(1, 2)
    token = tower.embeddings.class_embedding.expand(1, 1, -1)
    stream = torch.cat([patches, token] if misplaced else [token, patches], dim=1)
    stream = tower.pre_layrnorm(stream + tower.embeddings.position_embedding.weight)
    for layer in tower.encoder.layers[: LAYERS - 1]:
        stream = layer(stream, attention_mask=None)
    return projector(stream[0, 1:]).numpy()


def by_mtmd(folder, picture):
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(folder / "model.gguf").encode(), settings)
    params = mtmd.mtmd_context_params_default()
    params.use_gpu = params.warmup = params.print_timings = False
    context = mtmd.mtmd_init_from_file(str(folder / "mmproj.gguf").encode(), model, params)
    bitmap = mtmd.mtmd_bitmap_init(SIDE, SIDE, picture.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
    chunks, marker = mtmd.mtmd_input_chunks_init(), mtmd.mtmd_default_marker()
    text = mtmd.mtmd_input_text(marker, len(marker), False, True)
    assert mtmd.mtmd_tokenize(context, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1) == 0
    chunk = next(
        one for one in (mtmd.mtmd_input_chunks_get(chunks, i) for i in range(mtmd.mtmd_input_chunks_size(chunks)))
        if mtmd.mtmd_input_chunk_get_type(one) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
    )  # fmt: skip
    assert mtmd.mtmd_encode_chunk(context, chunk) == 0
    shape = (mtmd.mtmd_input_chunk_get_n_tokens(chunk), TEXT)
    found = np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), shape).copy()
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    mtmd.mtmd_free(context)
    llama_cpp.llama_model_free(model)
    return found


def told(name, found, expected):
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    largest = np.abs(found - expected).max()
    print(f"{name:32} cosine mean {cosines.mean():.4f}  worst {cosines.min():.4f}  largest difference {largest:.4f}")


def main():
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    mtmd.mtmd_log_set(quiet, None)
    tower, projector = make_model()
    picture = np.ascontiguousarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as made:
        write_mmproj(Path(made) / "mmproj.gguf", tower, projector)
        write_language_model(Path(made) / "model.gguf")
        found = by_mtmd(Path(made), picture)
    print(f"llama-cpp-python {llama_cpp.__version__}, {len(found)} image tokens")
    told("(a) mtmd, what LLaVA defines", found, features(tower, projector, picture, misplaced=False))
    told("(b) mtmd, class token misplaced", found, features(tower, projector, picture, misplaced=True))


if __name__ == "__main__":
    main()
