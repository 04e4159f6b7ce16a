"""Each published layout, as a tiny random checkpoint: loaded through the public path, equal to the model it was made from."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgereverie import stages
from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.errors import BackboneError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

PIECES = 371  # of the tiny SentencePiece vocabulary
VICUNA_ROWS = IMAGE = PIECES  # LLaVA-1.5's own layout has no row for <image>; it becomes the next one
PHI3_IMAGE = PIECES + 5  # after Phi-3's control tokens
TOWER = "openai/clip-vit-tiny-patch14-28"


def same(a: Any, b: Any) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= 1e-5


def equal_tensors(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Names, shapes, types and bytes."""
    assert sorted(got) == sorted(wanted)
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype, name
        assert torch.equal(got[name], tensor), name


def round_trip(folder: ModelFolder) -> dict[str, Any]:
    """Published -> ours -> published."""
    ours, unknown = folder.described.keys.ours(folder.described.tensors())
    assert not unknown
    return folder.described.keys.published({name: stored[...] for name, stored in ours.items()})


@pytest.fixture
def llava15(tiny: ModuleType, tmp_path: Path) -> tuple[Path, Any, dict[str, Any]]:
    """LLaVA-1.5 in its own layout, tower apart: (folder, the reference with padded rows, the published tensors)."""
    model = tiny.make_llava(tiny.LLAMA | {"vocab_size": VICUNA_ROWS}, 5)
    tensors = tiny.original_names(model)
    reference = tiny.make_llava(tiny.LLAMA | {"vocab_size": 384}, IMAGE)
    for name, value in reference.state_dict().items():
        wanted = model.state_dict()[name]
        value[: len(wanted)] = wanted
        if len(wanted) < len(value):
            value[len(wanted) :] = wanted.mean(0)
    rest, tower = tiny.split_tower(tensors)
    folder = tmp_path / "llava-v1.5-7b"
    folder.mkdir()
    tiny.write_json(folder / "config.json", tiny.llava_config(tiny.LLAMA | {"vocab_size": VICUNA_ROWS}, "llava", TOWER))
    (folder / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces()))
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6)}  # Vicuna's shards hold these
    tiny.write_weights(folder, rest | buffer, "bin")
    tiny.write_tower(tmp_path / "clip-vit-tiny-patch14-28", tiny.TOWER, tower)
    return folder, reference, tensors


@pytest.fixture
def phi3(tiny: ModuleType, tmp_path: Path) -> tuple[Path, Any, dict[str, Any]]:
    """LLaVA-Phi-3 in LLaVA's layout: fused linears, the tower inside, safetensors."""
    model = tiny.make_llava(tiny.PHI3, PHI3_IMAGE)
    tensors = tiny.original_names(model)
    folder = tmp_path / "LLaVA-Phi-3-mini-4k-instruct"
    folder.mkdir()
    tiny.write_json(folder / "config.json", tiny.llava_config(tiny.PHI3, "llava_phi", TOWER))
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(tiny.PHI3_TOKENS), encoding="utf-8")
    tiny.write_weights(folder, tensors, "safetensors")
    # The tower's folder says what the tower is; its weights here are others, and must not be taken.
    wrong = tiny.make_llava(tiny.PHI3, PHI3_IMAGE, seed=9)
    tiny.write_tower(tmp_path / "clip-vit-tiny-patch14-28", tiny.TOWER, tiny.split_tower(tiny.original_names(wrong))[1])
    return folder, model, tensors


def test_llava15_own_layout(tiny: ModuleType, llava15: Any) -> None:
    path, reference, _ = llava15
    folder = open_folder(path)
    assert (folder.layout, folder.backbone.name, folder.chat.name) == ("llava", "llava15", "vicuna_v1")
    assert (folder.image.size, folder.image.patch, folder.image.tokens, folder.image.fit) == (28, 14, 4, "pad")
    assert folder.config["image_token_index"] == IMAGE == folder.tokenizer().token_to_id("<image>")
    assert folder.config["text_config"]["vocab_size"] == 384
    model = folder.load()
    same(tiny.logits(model, IMAGE), tiny.logits(reference, IMAGE))
    assert not list(path.glob("*.tmp")) and len(list(path.iterdir())) == 5  # nothing was written into it


def test_llava15_round_trip(llava15: Any) -> None:
    path, _, tensors = llava15
    equal_tensors(round_trip(open_folder(path)), tensors)


def test_phi3_own_layout(tiny: ModuleType, phi3: Any) -> None:
    path, reference, tensors = phi3
    folder = open_folder(path)
    assert (folder.layout, folder.backbone.name, folder.chat.name) == ("llava", "llava_phi3", "phi3_instruct")
    assert folder.config["image_token_index"] == PHI3_IMAGE == folder.tokenizer().token_to_id("<image>")
    same(tiny.logits(folder.load(), PHI3_IMAGE), tiny.logits(reference, PHI3_IMAGE))
    equal_tensors(round_trip(folder), tensors)


# transformers' layout, under the names of three of its versions; the last is also LLaVA-Phi-3's of XTuner.
NAMES = {
    "4.36": {"lm_head.": "language_model.lm_head.", "model.language_model.": "language_model.model.",
             "model.vision_tower.": "vision_tower.vision_model.",
             "model.multi_modal_projector.": "multi_modal_projector."},
    "4.52": {"lm_head.": "lm_head.", "model.language_model.": "model.language_model.",
             "model.vision_tower.": "model.vision_tower.vision_model.",
             "model.multi_modal_projector.": "model.multi_modal_projector."},
    "5": {"lm_head.": "lm_head.", "model.language_model.": "model.language_model.",
          "model.vision_tower.": "model.vision_tower.", "model.multi_modal_projector.": "model.multi_modal_projector."},
}  # fmt: skip


@pytest.mark.parametrize("version", NAMES)
def test_llava15_huggingface(tiny: ModuleType, tmp_path: Path, version: str) -> None:
    reference = tiny.make_llava(tiny.LLAMA, IMAGE)
    published = tiny.write_huggingface(tmp_path / "m", reference, NAMES[version], tiny.tokenizer_json(["<image>"]))
    folder = open_folder(tmp_path / "m")
    assert (folder.layout, folder.backbone.name, folder.chat.name) == ("huggingface", "llava15", "vicuna_v1")
    assert folder.image.mean == (0.5, 0.4, 0.3)
    same(tiny.logits(folder.load(), IMAGE), tiny.logits(reference, IMAGE))
    equal_tensors(round_trip(folder), published)


def test_xtuner_phi3_is_a_llama_with_phi3s_words(tiny: ModuleType, tmp_path: Path) -> None:
    """Un-fused linears, a tower of its own inside, the image token after Phi-3's control tokens."""
    reference = tiny.make_llava(tiny.LLAMA, PHI3_IMAGE)
    tokenizer = tiny.tokenizer_json((*tiny.PHI3_TOKENS, "<image>"))
    tiny.write_huggingface(tmp_path / "m", reference, NAMES["4.36"], tokenizer)
    folder = open_folder(tmp_path / "m")
    assert (folder.backbone.name, folder.chat.name, folder.exports) == ("llava_phi3", "phi3", ("gguf", "onnx"))
    same(tiny.logits(folder.load(), PHI3_IMAGE), tiny.logits(reference, PHI3_IMAGE))


def test_saved_folder_is_the_same_model_again(tiny: ModuleType, llava15: Any, tmp_path: Path) -> None:
    """LLaVA's own layout -> memory -> transformers' layout -> memory; the chat format and the padding come along."""
    from edgereverie.backbones.base import save_folder

    path, reference, _ = llava15
    # As Vicuna's: settings of sampling without do_sample, which transformers reads with a warning and refuses to write.
    tiny.write_json(path / "generation_config.json", {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2,
                                                      "pad_token_id": 0, "temperature": 0.9, "top_p": 0.6})  # fmt: skip
    folder, out = open_folder(path), tmp_path / "saved"
    out.mkdir()
    save_folder(folder.load(), folder, out)
    again = open_folder(out)
    assert (again.layout, again.backbone.name) == ("huggingface", "llava15")
    assert (again.chat, again.image, again.config["image_token_index"]) == (folder.chat, folder.image, IMAGE)
    assert again.tokenizer().get_vocab() == folder.tokenizer().get_vocab()
    same(tiny.logits(again.load(), IMAGE), tiny.logits(reference, IMAGE))


def test_written_anew_without_building_the_model(tiny: ModuleType, phi3: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from edgereverie.backbones import _writing

    path, reference, _ = phi3
    monkeypatch.setattr(_writing, "_SHARD", 100_000)  # bytes, so that there are several shards
    folder, out = open_folder(path), tmp_path / "written"
    out.mkdir()
    _writing.write_folder(folder, out)
    again = open_folder(out)
    assert len(list(out.glob("model-*.safetensors"))) > 1
    assert (again.layout, again.chat, again.image) == ("huggingface", folder.chat, folder.image)
    equal_tensors({n: t[...] for n, t in again.tensors().items()}, dict(reference.state_dict()))
    same(tiny.logits(again.load(), PHI3_IMAGE), tiny.logits(reference, PHI3_IMAGE))


# LoRA with non_lora_trainables.bin


@pytest.fixture
def lora(tiny: ModuleType, tmp_path: Path) -> tuple[Path, Any]:
    """LLaVA-Phi-3's LoRA: (folder, the reference with W + alpha / r B A written out)."""
    model = tiny.make_llava(tiny.PHI3, PHI3_IMAGE)
    tensors = tiny.original_names(model)
    rest, tower = tiny.split_tower(tensors)
    base = {name: value for name, value in rest.items() if "mm_projector" not in name}
    whole = {f"base_model.model.{name}": value for name, value in rest.items() if "mm_projector" in name}
    tiny.write_tower(tmp_path / "clip-vit-tiny-patch14-28", tiny.TOWER, tower)
    (tmp_path / "Phi-3-mini-4k-instruct").mkdir()
    tiny.write_json(tmp_path / "Phi-3-mini-4k-instruct" / "config.json", tiny.PHI3)
    tiny.write_weights(tmp_path / "Phi-3-mini-4k-instruct", base)
    folder = tmp_path / "LLaVA-Phi-3-mini-4k-instruct-lora"
    folder.mkdir()
    tiny.write_json(folder / "config.json", tiny.llava_config(tiny.PHI3, "llava_phi", TOWER))
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(tiny.PHI3_TOKENS), encoding="utf-8")
    torch.save(whole, folder / "non_lora_trainables.bin")
    tiny.write_json(folder / "adapter_config.json", {
        "base_model_name_or_path": "microsoft/Phi-3-mini-4k-instruct", "r": 4, "lora_alpha": 6, "peft_type": "LORA",
        "fan_in_fan_out": False, "modules_to_save": None, "lora_dropout": 0.05, "bias": "none",
        "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]})  # fmt: skip
    adapter = {}
    for name, module in model.model.language_model.named_modules():
        if isinstance(module, torch.nn.Linear):
            down, up = torch.randn(4, module.in_features) * 0.1, torch.randn(module.out_features, 4) * 0.1
            adapter[f"base_model.model.model.{name}.lora_A.weight"] = down
            adapter[f"base_model.model.model.{name}.lora_B.weight"] = up
            module.weight.data += 1.5 * up @ down
    torch.save(adapter, folder / "adapter_model.bin")
    return folder, model


def test_phi3_lora(tiny: ModuleType, lora: Any) -> None:
    path, reference = lora
    folder = open_folder(path)
    assert (folder.layout, folder.backbone.name) == ("llava_lora", "llava_phi3")
    same(tiny.logits(folder.load(), PHI3_IMAGE), tiny.logits(reference, PHI3_IMAGE))
    assert {file.name for file in folder.files()} >= {"non_lora_trainables.bin", "pytorch_model.bin"}


def test_lora_without_its_projector_or_base(lora: Any) -> None:
    path, _ = lora
    (path / "non_lora_trainables.bin").rename(path / "hidden")
    with pytest.raises(BackboneError, match=r"non_lora_trainables\.bin, which holds its projector"):
        open_folder(path)
    (path / "hidden").rename(path / "non_lora_trainables.bin")
    (path.parent / "Phi-3-mini-4k-instruct").rename(path.parent / "elsewhere")
    with pytest.raises(BackboneError, match="base model 'microsoft/Phi-3-mini-4k-instruct'") as caught:
        open_folder(path)
    assert str(path.parent / "Phi-3-mini-4k-instruct") in caught.value.hint


def test_lora_of_another_base(tiny: ModuleType, lora: Any) -> None:
    path, _ = lora
    wide = tiny.make_llava(tiny.PHI3 | {"hidden_size": 64, "intermediate_size": 128}, PHI3_IMAGE)
    rest, _ = tiny.split_tower(tiny.original_names(wide))
    tiny.write_weights(path.parent / "Phi-3-mini-4k-instruct", {n: v for n, v in rest.items() if "projector" not in n})
    with pytest.raises(BackboneError, match=r"adapter_model\.bin: the adapter's .* the base at .* has 64x"):
        open_folder(path).load()


def test_a_hub_id_comes_from_the_cache(tiny: ModuleType, llava15: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Offline, checkpoint and tower both by their ids; the hub's cache has its own arrangement of folders."""
    import huggingface_hub.constants

    path, reference, _ = llava15
    for name, source in (("liuhaotian/llava-v1.5-7b", path), (TOWER, tmp_path / TOWER.partition("/")[2])):
        repository = tmp_path / "cache" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0123abc", encoding="utf-8")
        (repository / "snapshots").mkdir()
        source.rename(repository / "snapshots" / "0123abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: pytest.fail("asked the hub"))
    folder = open_folder("liuhaotian/llava-v1.5-7b")
    same(tiny.logits(folder.load(), IMAGE), tiny.logits(reference, IMAGE))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with stages.open_model(
        "liuhaotian/llava-v1.5-7b"
    ) as model:  # to be asked, it is not downloaded even when it could be
        assert model.name == "liuhaotian/llava-v1.5-7b" and model.chat.name == "vicuna_v1"
    with pytest.raises(BackboneError, match="nobody/nothing: neither a folder here nor in the hub's cache"):
        stages.open_model("nobody/nothing")


def test_llava15_7b_as_published_has_the_published_count(tiny: ModuleType, tmp_path: Path) -> None:
    """Its own layout without a single weight: the config, the tokenizer, the index. Rows are padded as llava-hf's are, and
    llava-hf/llava-1.5-7b-hf has 7,063,427,072 parameters when transformers loads it.
    """
    from edgereverie.backbones._loading import skeleton

    text = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    config = tiny.llava_config(text, "llava", "openai/clip-vit-large-patch14-336") | {"mm_hidden_size": 1024}
    tiny.write_json(tmp_path / "config.json", config)
    rest = [(f"▁x{i}", -1000.0 - i, 1) for i in range(32000 - PIECES)]
    (tmp_path / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces() + rest))
    inside = ("model.mm_projector.0.weight", "model.vision_tower.vision_tower.vision_model.post_layernorm.bias")
    tiny.write_json(tmp_path / "pytorch_model.bin.index.json", {"weight_map": dict.fromkeys(inside, "none.bin")})
    folder = open_folder(tmp_path)
    assert (folder.image.tokens, folder.config["text_config"]["vocab_size"]) == (576, 32064)
    assert sum(parameter.numel() for parameter in skeleton(folder).parameters()) == 7_063_427_072


def test_llava_hf_7b_config_as_published(tiny: ModuleType, tmp_path: Path) -> None:
    """The fields of llava-hf/llava-1.5-7b-hf's config.json, which leave Vicuna's sizes to LlamaConfig's defaults."""
    from edgereverie.backbones._loading import skeleton

    tiny.write_json(tmp_path / "config.json", {
        "architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100, "image_token_index": 32000,
        "model_type": "llava", "pad_token_id": 32001, "projector_hidden_act": "gelu", "tie_word_embeddings": False,
        "text_config": {"_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
                        "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-05,
                        "torch_dtype": "float16", "vocab_size": 32064},
        "torch_dtype": "float16", "transformers_version": "4.36.0.dev0",
        "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
                          "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
                          "patch_size": 14, "projection_dim": 768, "vocab_size": 32000},
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": 32064})  # fmt: skip
    tiny.write_json(tmp_path / "preprocessor_config.json", {
        "crop_size": {"height": 336, "width": 336}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "CLIPImageProcessor", "processor_class": "LlavaProcessor", "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}})  # fmt: skip
    rest = [(f"▁x{i}", -1000.0 - i, 1) for i in range(32000 - PIECES)]
    (tmp_path / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces() + rest))
    added = {"32000": {"content": "<image>", "special": True}, "32001": {"content": "<pad>", "special": True}}
    tiny.write_json(
        tmp_path / "tokenizer_config.json", {"added_tokens_decoder": added, "tokenizer_class": "LlamaTokenizer"}
    )
    names = {"language_model.lm_head.weight": "none", "vision_tower.vision_model.post_layernorm.bias": "none"}
    tiny.write_json(tmp_path / "model.safetensors.index.json", {"weight_map": names})
    folder = open_folder(tmp_path)
    assert (folder.backbone.name, folder.chat.name, folder.image.tokens) == ("llava15", "vicuna_v1", 576)
    assert sum(parameter.numel() for parameter in skeleton(folder).parameters()) == 7_063_427_072
