"""From a model folder's tensors to a module: checked against the model's skeleton first, then streamed into it.

transformers takes our tensors one by one as it asks for them, casts and quantizes each, and never holds the whole twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgereverie.backbones._checkpoint import Stored
from edgereverie.backbones._layouts.base import read_json
from edgereverie.errors import BackboneError, MissingPackage

if TYPE_CHECKING:
    from torch import nn

    from edgereverie.backbones.base import ModelFolder

_TOWER = ("model.vision_tower.", "model.multi_modal_projector.linear_1.")
_ROWS = ("lm_head.", "model.language_model.embed_tokens.")


def model_class(folder: ModelFolder) -> type[Any]:
    """The class that this folder's backbone builds."""
    module, _, name = folder.backbone.model.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise MissingPackage(error.name or "transformers", "Loading a model folder", "train") from None


def skeleton(folder: ModelFolder) -> nn.Module:
    """The model with shapes and without values, on torch's meta device. Raises BackboneError for a config it cannot be."""
    try:
        import torch
        from huggingface_hub.errors import StrictDataclassError
    except ImportError as error:
        raise MissingPackage(error.name or "torch", "Loading a model folder", "train") from None
    built = model_class(folder)
    try:
        with torch.device("meta"):
            return built(built.config_class.from_dict(dict(folder.config)))
    except (
        ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError, StrictDataclassError,
    ) as error:  # fmt: skip
        raise _bad_config(folder, error) from None


def _bad_config(folder: ModelFolder, error: Exception) -> BackboneError:
    return BackboneError(
        f"{folder.path / 'config.json'}: no model can be built from it ({type(error).__name__}: {error}).",
        hint="Take config.json from the checkpoint itself.",
    )


def fitting(folder: ModelFolder, model: nn.Module | None = None) -> dict[str, Stored]:
    """The folder's tensors under our names, exactly those of the model. Nothing is read yet.

    Raises BackboneError that lists what is missing, what is too much and what has another shape, with its file.
    """
    model = skeleton(folder) if model is None else model
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    try:
        ours, unknown = folder.described.keys.ours(folder.described.tensors())
    except ValueError as error:
        raise BackboneError(f"{error}.", hint=_HINTS["rows"]) from None
    missing = sorted(name for name in wanted if name not in ours and tied.get(name) not in ours)
    extra = {name: stored for name, stored in ours.items() if name not in wanted}
    other = {name: stored for name, stored in ours.items() if name in wanted and stored.shape != wanted[name]}
    if other:
        told = (f"{name} is {_shape(stored.shape)} in {stored.file.name}, the config asks for {_shape(wanted[name])}"
                for name, stored in sorted(other.items()))  # fmt: skip
        raise BackboneError(f"{folder.path}: shapes disagree: {_first(told, len(other))}.", hint=_hint_for(other))
    if missing:
        raise BackboneError(
            f"{folder.path}: config and weights disagree: {len(missing)} tensors of the model are missing from its files: "
            f"{_first(missing, len(missing))}.",
            hint=_HINTS["tower"]
            if all(name.startswith("model.vision_tower.") for name in missing)
            else _HINTS["whole"],
        )
    if unknown or extra:
        found = sorted([*unknown.items(), *extra.items()])
        told = (f"{name} ({stored.file.name})" for name, stored in found)
        raise BackboneError(
            f"{folder.path}: {len(found)} tensors belong nowhere in this model: {_first(told, len(found))}.",
            hint=_HINTS["whole"],
        )
    return ours


_HINTS = {
    "whole": "Take config.json and all weight files from the same checkpoint, and download it whole.",
    "tower": "The checkpoint's own vision tower is incomplete; place the tower's folder beside the model folder.",
    "wrong tower": "This is another vision tower than the projector was trained with. Place the one that config.json names "
    "beside the model folder, under the last part of its name.",
    "rows": "The embedding is of another vocabulary than config.json; take both from the same checkpoint.",
}


def _hint_for(other: Iterable[str]) -> str:
    if any(name.startswith(_TOWER) for name in other):
        return _HINTS["wrong tower"]
    return _HINTS["rows"] if all(name.startswith(_ROWS) for name in other) else _HINTS["whole"]


def _first(told: Iterable[str], count: int, most: int = 4) -> str:
    listed = [text for text, _ in zip(told, range(most), strict=False)]
    return "; ".join(listed) + (f" and {count - most} more" if count > most else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def load(folder: ModelFolder, dtype: str, quantization: str, device: str) -> nn.Module:
    """The model in eval mode on ``device``, its language model in NF4 where asked."""
    try:
        import torch
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise MissingPackage(error.name or "transformers", "Loading a model folder", "train") from None
    disable_progress_bar()
    empty = skeleton(folder)
    tensors = fitting(folder, empty)
    try:
        model, info = model_class(folder).from_pretrained(
            None,
            config=empty.config,
            state_dict=tensors,
            dtype=getattr(torch, dtype),
            quantization_config=_nf4(folder, empty, dtype) if quantization == "nf4" else None,
            device_map={"": device},
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise BackboneError(
            f"{folder.path}: the weights do not load ({error}).",
            hint="config.json and the weights must be of one model.",
        ) from None
    wrong = {kind: sorted(map(str, names)) for kind, names in info.items() if names and kind != "skipped_pp_keys"}
    if wrong:
        raise BackboneError(f"{folder.path}: transformers read the weights otherwise than they lie ({wrong}).")
    # As a model that was loaded from its folder, and written under the names that transformers gives a new one.
    model._weight_conversions = None
    model.config.name_or_path = model.name_or_path = str(folder.path)
    _generation(model, folder)
    if quantization == "nf4":
        assert_nf4_placed(model, folder)
    return model.eval()


def _generation(model: nn.Module, folder: ModelFolder) -> None:
    """The ids that begin, end and pad a text. The rest of a published file is left: answers are not sampled by it here, and
    some (Vicuna's) hold settings that transformers refuses to write again.
    """
    from transformers import GenerationConfig

    if (folder.path / "generation_config.json").is_file():
        found = read_json(folder.path, "generation_config.json")
        ids = {key: found[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in found}
        model.generation_config = GenerationConfig(**ids)


def _nf4(folder: ModelFolder, model: nn.Module, dtype: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    # Full names from the root: transformers matches these from the start of a module's name, and giving any list drops its
    # own exclusion of lm_head.
    left_out = [name for name, _ in _linears(model) if not _in_four_bit(name, folder)]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        llm_int8_skip_modules=left_out,
    )


def _linears(model: nn.Module) -> list[tuple[str, nn.Module]]:
    from torch.nn import Linear

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Linear)]


def _in_four_bit(name: str, folder: ModelFolder) -> bool:
    inside = name.startswith("model.language_model.")
    return inside and name.rpartition(".")[2] not in folder.backbone.sixteen_bit


def assert_nf4_placed(model: nn.Module, folder: ModelFolder) -> None:
    """Each linear of the language model but the named ones is 4-bit, nothing else is; by module identity, not by patterns."""
    from bitsandbytes.nn import Linear4bit

    inside = {
        id(module)
        for name, module in model.model.language_model.named_modules()
        if name.rpartition(".")[2] not in folder.backbone.sixteen_bit
    }
    for name, module in _linears(model):
        if (id(module) in inside) != isinstance(module, Linear4bit):
            raise BackboneError(
                f"{folder.path}: 4-bit quantization went wrong at {name} ({type(module).__name__}).",
                hint="This version of transformers places it differently; install one that the package names.",
            )
