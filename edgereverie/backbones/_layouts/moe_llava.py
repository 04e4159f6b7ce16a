"""MoE-LLaVA as published (``LanguageBind/MoE-LLaVA-*``): DeepSpeed's names for gates and experts, fields of its own.

Three bases: StableLM-2, Phi-2, and the first Qwen, whose blocks are Qwen2's under other names and with one fused linear.
The names are those that the official code saves; the fields those of its configuration classes
(``moellava/model/language_model``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones._checkpoint import open_weights, weight_names
from edgereverie.backbones._keys import KeyMap, Rule, SplitRows
from edgereverie.backbones._layouts.base import Described
from edgereverie.backbones._layouts.llava import image_spec, llava_config
from edgereverie.backbones._tokenizers import read_tokenizer, with_image_token
from edgereverie.backbones._towers import find_tower
from edgereverie.chat import PHI, QWEN, STABLELM, ChatFormat
from edgereverie.errors import BackboneError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Config = Mapping[str, Any]
_LAYER = "model.language_model.layers.{n}."
_EXPERT = "{n}.mlp.deepspeed_moe.experts.deepspeed_experts.{m}."


@dataclass(frozen=True, slots=True)
class _Base:
    """A language model under MoE-LLaVA. text: its config for transformers. root: what all its names begin with.
    pad: the token that pads in its training. head_bias: lm_head has one.
    """

    chat: ChatFormat
    text: Callable[[Config], dict[str, Any]]
    rules: tuple[Rule, ...]
    root: str
    pad: str
    head_bias: bool = False


def _stablelm(config: Config) -> dict[str, Any]:
    rope = {"rope_theta": config.get("rope_theta", 10_000), "partial_rotary_factor": config.get("rope_pct", 0.25)}
    return {
        "model_type": "stablelm",
        "intermediate_size": config["intermediate_size"],
        "num_key_value_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "hidden_act": config.get("hidden_act", "silu"),
        "max_position_embeddings": config.get("max_position_embeddings", 4096),
        "layer_norm_eps": config.get("norm_eps", 1e-5),
        "use_qkv_bias": config.get("use_qkv_bias", True),
        "rope_parameters": {"rope_type": "default"} | rope,
    }


def _phi(config: Config) -> dict[str, Any]:
    rope = {
        "rope_theta": config.get("rope_theta", 10_000.0),
        "partial_rotary_factor": config.get("partial_rotary_factor", 0.5),
    }
    return {
        "model_type": "phi",
        "intermediate_size": config["intermediate_size"],
        "num_key_value_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "hidden_act": config.get("hidden_act", "gelu_new"),
        "max_position_embeddings": config.get("max_position_embeddings", 2048),
        "layer_norm_eps": config.get("layer_norm_eps", 1e-5),
        "qk_layernorm": config.get("qk_layernorm", False),
        "rope_parameters": {"rope_type": "default"} | rope,
    }


def _qwen(config: Config) -> dict[str, Any]:
    """``intermediate_size`` counts both halves of the gated layer. Up to seq_length, where its context ends here, the first
    Qwen neither stretches its rotary angles nor scales its queries, and is a Qwen2."""
    if config.get("rotary_pct", 1.0) != 1.0 or not config.get("no_bias", True):
        raise ValueError("rotary_pct other than 1, or no_bias false")
    return {
        "model_type": "qwen2",
        "intermediate_size": config["intermediate_size"] // 2,
        "num_key_value_heads": config["num_attention_heads"],
        "hidden_act": "silu",
        "max_position_embeddings": config.get("seq_length") or config.get("max_position_embeddings", 8192),
        "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
        "rope_parameters": {"rope_type": "default", "rope_theta": config.get("rotary_emb_base", 10_000)},
    }


_LLAMA_LIKE = (
    Rule("model.layers.{n}.mlp.deepspeed_moe.gate.wg.weight", _LAYER + "mlp.wg.weight"),
    Rule("model.layers." + _EXPERT + "{rest}", _LAYER + "mlp.experts.{m}.{rest}"),
    Rule("model.layers.{rest}", "model.language_model.layers.{rest}"),
    Rule("model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
    Rule("model.norm.{rest}", "model.language_model.norm.{rest}"),
    Rule("model.final_layernorm.{rest}", "model.language_model.final_layernorm.{rest}"),
)
_QWEN = tuple(
    Rule("transformer." + published, "model.language_model." + ours)
    for published, ours in {
        "wte.weight": "embed_tokens.weight",
        "ln_f.weight": "norm.weight",
        "h.{n}.ln_1.weight": "layers.{n}.input_layernorm.weight",
        "h.{n}.ln_2.weight": "layers.{n}.post_attention_layernorm.weight",
        "h.{n}.attn.c_proj.weight": "layers.{n}.self_attn.o_proj.weight",
        "h.{n}.mlp.deepspeed_moe.gate.wg.weight": "layers.{n}.mlp.wg.weight",
        # output = c_proj(w1(x) * silu(w2(x)))
        "h." + _EXPERT + "w1.weight": "layers.{n}.mlp.experts.{m}.up_proj.weight",
        "h." + _EXPERT + "w2.weight": "layers.{n}.mlp.experts.{m}.gate_proj.weight",
        "h." + _EXPERT + "c_proj.weight": "layers.{n}.mlp.experts.{m}.down_proj.weight",
        "h.{n}.mlp.w1.weight": "layers.{n}.mlp.up_proj.weight",
        "h.{n}.mlp.w2.weight": "layers.{n}.mlp.gate_proj.weight",
        "h.{n}.mlp.c_proj.weight": "layers.{n}.mlp.down_proj.weight",
    }.items()
) + tuple(
    Rule(
        f"transformer.h.{{n}}.attn.c_attn.{kind}",
        tuple(f"{_LAYER}self_attn.{part}_proj.{kind}" for part in "qkv"),
        SplitRows(3),
    )
    for kind in ("weight", "bias")
)
_BASES = {
    "moe_llava_stablelm": _Base(STABLELM, _stablelm, _LLAMA_LIKE, "model.", "<|reg0|>"),
    "moe_llava_phi": _Base(PHI, _phi, _LLAMA_LIKE, "model.", "<|extra_0|>", head_bias=True),
    "moe_llava_qwen": _Base(QWEN, _qwen, _QWEN, "transformer.", "<|extra_0|>"),
}
_SHARED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


class MoeLlava:
    name = "moe_llava"

    def recognises(self, path: Path, config: Config) -> bool:
        return config.get("model_type") in _BASES and isinstance(config.get("moe"), Mapping)

    def read(self, path: Path, config: Config) -> Described:
        base = _BASES[config["model_type"]]
        tower_prefix = base.root + "image_tower.image_tower.vision_model."
        inside = any(name.startswith(tower_prefix) for name in weight_names(path))

        @cache
        def tokenizer() -> Tokenizer:
            made = read_tokenizer(path)
            with_image_token(made, base.chat.image_token)
            return made

        try:
            _refuse(config)
            text = base.text(config) | {name: config[name] for name in _SHARED} | _special(config, tokenizer(), base)
            moe = moe_section(config["moe"], config["num_hidden_layers"])
            tower_name, hidden = config["mm_image_tower"], int(config["mm_hidden_size"])
        except (KeyError, TypeError, ValueError) as error:
            told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise BackboneError(
                f"{path / 'config.json'}: no MoE-LLaVA that can be read here: {told}.",
                hint="Take config.json from the checkpoint itself; one of the LanguageBind/MoE-LLaVA-* is wanted.",
            ) from None
        tower = find_tower(tower_name, path, inside=inside, hidden=hidden)
        image = image_spec(tower, config)
        image_token = tokenizer().token_to_id(base.chat.image_token)
        return Described(
            config=llava_config(text, tower, config, image, image_token)
            | {
                "model_type": "moe_llava",
                "architectures": ["MoeLlavaForConditionalGeneration"],
                "lm_head_bias": base.head_bias,
                "moe": moe,
            },
            image=image,
            chat=base.chat.name,
            tokenizer=tokenizer,
            tensors=lambda: open_weights(path) | ({} if inside else tower.tensors(tower_prefix)),
            keys=_key_map(base, tower_prefix),
        )


def _key_map(base: _Base, tower_prefix: str) -> KeyMap:
    projector = base.root + "mm_projector.image_spatial_proj."
    return KeyMap(
        (
            Rule(projector + "0.{rest}", "model.multi_modal_projector.linear_1.{rest}"),
            Rule(projector + "2.{rest}", "model.multi_modal_projector.linear_2.{rest}"),
            Rule(tower_prefix + "{rest}", "model.vision_tower.{rest}"),
            *base.rules,
            Rule("lm_head.{rest}", "lm_head.{rest}"),
        )
    )


def _special(config: Config, tokenizer: Tokenizer, base: _Base) -> dict[str, int | None]:
    """Ids of the tokens that begin, end and pad: the config's, else those of the base's own code."""
    end = tokenizer.token_to_id(base.chat.end)
    pads = (config.get("pad_token_id"), tokenizer.token_to_id(base.pad), end)
    return {
        "bos_token_id": config.get("bos_token_id"),
        "eos_token_id": end if config.get("eos_token_id") is None else config["eos_token_id"],
        "pad_token_id": next((pad for pad in pads if pad is not None), None),
    }


def _refuse(config: Config) -> None:
    """What MoE-LLaVA's code can say and no published checkpoint does."""
    for key, wanted in (
        ("image_projector_type", "mlp2x_gelu"),
        ("mm_vision_select_feature", "patch"),
        ("mm_use_im_start_end", False),
        ("mm_video_tower", None),
    ):
        if (found := config.get(key, wanted)) != wanted:
            raise ValueError(f"{key} is {found!r}, wanted {wanted!r}")
    if config["moe"].get("use_residual"):
        raise ValueError("moe.use_residual is true, residual experts are not known")


def moe_section(moe: Config, layers: int) -> dict[str, Any]:
    """The published ``moe`` section with its layers and its numbers of experts written out, and in order.

    ValueError for layers that the model has not, or numbers that are not one for each layer.
    """
    chosen = moe.get("moe_layers_idx")
    chosen = list(moe_layers(moe.get("moe_mode", "sparse"), layers) if chosen is None else chosen)
    experts = list(moe["num_experts"])
    experts = experts * len(chosen) if len(experts) == 1 else experts
    if sorted(set(chosen)) != chosen or not all(0 <= index < layers for index in chosen) or not chosen:
        raise ValueError(f"moe_layers_idx {chosen}, wanted ascending numbers from 0 to {layers - 1}")
    if len(experts) != len(chosen) or not all(isinstance(count, int) and count > 1 for count in experts):
        raise ValueError(f"num_experts {experts}, wanted two or more for each of {len(chosen)} layers")
    return dict(moe) | {"moe_layers_idx": chosen, "num_experts": experts}


def moe_layers(mode: str, layers: int) -> range:
    """MoE-LLaVA's ``moe_mode``: which of a language model's layers have experts.

    >>> list(moe_layers("sparse", 6))
    [0, 2, 4]
    """
    modes = {
        "sparse": range(0, layers, 2),
        "dense": range(layers),
        "first_half": range(layers // 2),
        "second_half": range(layers // 2, layers),
    }
    if mode not in modes:
        raise ValueError(f"moe_mode {mode!r}, known are {', '.join(modes)}")
    return modes[mode]


LAYOUT = MoeLlava()
