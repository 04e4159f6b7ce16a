"""What a backbone is, and what a model folder holds.

A model folder is a Hugging Face layout that transformers loads as it is: ``config.json``, safetensors, ``tokenizer.json``,
``preprocessor_config.json``. Everything that training, export and runtime must agree on (chat format, image geometry,
which linears an adapter touches) is decided here, once for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgereverie.bundle import write_text
from edgereverie.chat import ChatFormat, chat_format
from edgereverie.errors import BackboneError, MissingPackage
from edgereverie.records import ImageSpec
from edgereverie.registry import BACKBONES

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class Backbone:
    """One family of models.

    text_types: the language models' ``model_type`` that it stands for. adapter_targets: the linears of the language model
    that LoRA adapts, by the last part of their names. exports: the targets that can carry it.
    """

    name: str
    text_types: tuple[str, ...]
    chat: ChatFormat
    adapter_targets: tuple[str, ...]
    exports: tuple[str, ...]

    def recognises(self, config: Mapping[str, Any]) -> bool:
        return (
            config.get("model_type") == "llava" and config.get("text_config", {}).get("model_type") in self.text_types
        )


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: its backbone, image geometry and parsed config. Nothing heavy is loaded yet."""

    path: Path
    config: Mapping[str, Any]
    backbone: Backbone
    image: ImageSpec

    @property
    def chat(self) -> ChatFormat:
        return self.backbone.chat

    @property
    def context(self) -> int:
        return int(self.config["text_config"]["max_position_embeddings"])

    def tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.path / "tokenizer.json"))

    def load(self, precision: Precision = "fp32", quantization: Literal["none", "nf4"] = "none") -> nn.Module:
        """The model in eval mode, on the CPU or, where there is one, the CUDA device.

        quantization nf4 puts the language model's linears in 4 bit and asserts that it did just that: the vision
        tower, the projector and lm_head stay as they are. Raises BackboneError for damaged or mismatched weights.
        """
        return _load(self, precision, quantization)


def open_folder(path: Path) -> ModelFolder:
    """Read and check what a model folder says about itself. Raises BackboneError that names the file."""
    config = _read_json(path, "config.json")
    for needed in ("tokenizer.json", "preprocessor_config.json"):
        if not (path / needed).is_file():
            raise BackboneError(
                f"{path}: the model folder has no {needed}.", hint="Copy the whole folder, or download it again."
            )
    if not any(path.glob("*.safetensors")):
        raise BackboneError(f"{path}: the model folder has no .safetensors weights.", hint="Only safetensors are read.")
    backbone = find_backbone(config, path)
    vision = config.get("vision_config", {})
    preprocessing = _read_json(path, "preprocessor_config.json")
    try:
        image = ImageSpec(
            size=int(vision["image_size"]),
            patch=int(vision["patch_size"]),
            mean=tuple(preprocessing["image_mean"]),
            std=tuple(preprocessing["image_std"]),
            fit="crop" if preprocessing.get("do_center_crop", False) else "pad",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(
            f"{path}: the image geometry is incomplete ({error}).",
            hint="config.json needs vision_config.image_size and patch_size, preprocessor_config.json image_mean "
            "and image_std.",
        ) from None
    return ModelFolder(path, config, backbone, image)


def find_backbone(config: Mapping[str, Any], path: Path) -> Backbone:
    for name in BACKBONES.names():
        backbone: Backbone = BACKBONES.get(name)
        if backbone.recognises(config):
            return backbone
    text = config.get("text_config", {}).get("model_type")
    raise BackboneError(
        f"{path}: no backbone stands for model_type {config.get('model_type')!r} with text model {text!r}.",
        hint=f"Known backbones: {', '.join(BACKBONES.names())}.",
    )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(
            f"{folder}: not a model folder, it has no {name}.",
            hint="Name a folder with config.json and safetensors, or 'starter'.",
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackboneError(
            f"{folder / name}: cannot be read ({error}).", hint="Copy or download the folder again."
        ) from None


def device() -> str:
    """``cuda`` where torch sees a card, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(folder: ModelFolder, precision: Precision, quantization: str) -> nn.Module:
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import BitsAndBytesConfig, LlavaForConditionalGeneration
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise MissingPackage(error.name or "transformers", "Loading a model folder", "train") from None
    disable_progress_bar()
    dtype = getattr(torch, DTYPES[precision])
    settings = None
    if quantization == "nf4":
        # Full names from the root: transformers matches these from the start of a module's name, and giving any list
        # drops its own exclusion of lm_head.
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["model.vision_tower", "model.multi_modal_projector", "lm_head"],
        )
    try:
        model, info = LlavaForConditionalGeneration.from_pretrained(
            folder.path,
            dtype=dtype,
            quantization_config=settings,
            device_map={"": device()},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise BackboneError(
            f"{folder.path}: the weights are damaged or cut short ({error}).",
            hint="Copy or download the .safetensors files again.",
        ) from None
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise BackboneError(
            f"{folder.path}: the weights do not load ({error}).",
            hint="config.json and the weights must be of the same model.",
        ) from None
    wrong = {
        kind: sorted(map(str, info[kind]))
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info.get(kind)
    }
    if wrong:
        listed = "; ".join(f"{kind.replace('_', ' ')}: {', '.join(names[:4])}" for kind, names in wrong.items())
        raise BackboneError(
            f"{folder.path}: config and weights disagree ({listed}).",
            hint="Take config.json and the weights from the same checkpoint.",
        )
    if quantization == "nf4":
        _assert_nf4_placed(model, folder)
    return model.eval()


def _assert_nf4_placed(model: nn.Module, folder: ModelFolder) -> None:
    """Each linear of the language model is 4-bit, nothing else is; by module identity, not by name patterns."""
    import torch
    from bitsandbytes.nn import Linear4bit

    inside = {id(module) for module in model.model.language_model.modules()}
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        if (id(module) in inside) != isinstance(module, Linear4bit):
            raise BackboneError(
                f"{folder.path}: 4-bit quantization went wrong at {name} ({type(module).__name__}).",
                hint="This version of transformers places it differently; install one that the package names.",
            )


def save_folder(model: nn.Module, source: ModelFolder, out: Path) -> None:
    """Write ``model`` into the existing folder ``out`` as a model folder of the same kind as ``source``."""
    model.save_pretrained(out, max_shard_size="2GB")
    copy_companions(source.path, out)


def copy_companions(source: Path, out: Path) -> None:
    """The files beside the weights: tokenizer, image geometry, chat template."""
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "chat_template.jinja",
    ):
        if (source / name).is_file():
            (out / name).write_bytes((source / name).read_bytes())


def write_companions(out: Path, tokenizer: Tokenizer, image: ImageSpec, chat: str) -> None:
    """Tokenizer, image geometry and chat template for a model made from nothing."""
    template = chat_format(chat)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": template.begin,
        "eos_token": template.end,
        "unk_token": "<unk>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": template.jinja,
    }
    write_text(out / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    preprocessing = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"height": image.size, "width": image.size},
        "do_center_crop": image.fit == "crop",
        "crop_size": {"height": image.size, "width": image.size},
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_convert_rgb": True,
        "resample": 3,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }
    write_text(out / "preprocessor_config.json", json.dumps(preprocessing, indent=2) + "\n")
