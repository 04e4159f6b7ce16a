"""An adapter alone as GGUF: some megabytes that llama.cpp adds to a base it has loaded once, quantized or not.

    llama-cli -m base.gguf --lora adapter.gguf

Keys and tensors are those of llama.cpp's convert_lora_to_gguf.py: ``NAME.lora_a`` (rank x in) and ``NAME.lora_b`` (out x
rank), scaled by alpha / rank when they are added. What a base's GGUF does with a linear's rows (another order, one half of
them), it does with lora_b's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.architectures._plan import Plan
from edgereverie.export.architectures.base import find_architecture
from edgereverie.export.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

Change = Callable[["Tensor"], "Tensor"]
_WHOLE = "Merge the adapter and export the whole model: edgereverie export ADAPTER --profile gguf-q4-k-m"
_INSIDE = "base_model.model."
# Fields of adapter_config.json that stand for more than the product of A and B, each with the value that means "not so".
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (False, None), "use_qalora": (False, None), "use_bdlora": (False, None), "bias": ("none", None),
    "lora_bias": (False, None), "fan_in_fan_out": (False, None), "modules_to_save": (None, []),
    "trainable_token_indices": (None, []), "target_parameters": (None, []), "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the base's GGUF. parts: the linears that it is made of, by module path, several for a stack of experts, each
    with what happens to its rows.
    """

    name: str
    parts: tuple[tuple[str, Change | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One linear's adapter: a (rank, in), b (out, rank), and what their product is multiplied by."""

    a: Tensor
    b: Tensor
    scale: float


def write_lora_gguf(adapter: Path, base: ModelFolder, out: Path) -> Path:
    """Write a PEFT LoRA folder as the new file ``out``, for the GGUF that ``base`` becomes. Returns ``out``.

    Values are stored in the adapter's own type, bfloat16 in 32 bits. Raises ExportError for an adapter that is not of this
    base, and for one that changes more than llama.cpp can add to a language model's linears: tower, projector, whole
    modules, DoRA.
    """
    settings = _settings(adapter)
    pairs = _pairs(adapter, settings)
    arch, slots = slots_of(base)
    _require_places(adapter, pairs, slots)
    alpha = float(settings["lora_alpha"])
    tensors: dict[str, Tensor] = {}
    for slot in slots:
        if any(linear in pairs for linear, _ in slot.parts):
            a, b = _stacked(slot, pairs, alpha)
            tensors |= {f"{slot.name}.lora_a": a, f"{slot.name}.lora_b": b}
    _require_fit(adapter, base, slots, pairs)
    beside = out.with_name(f".{out.name}.part")
    try:
        _write(beside, arch, alpha, tensors, adapter.name)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    return out


def slots_of(base: ModelFolder) -> tuple[str, list[Slot]]:
    """The base's architecture in llama.cpp, and where its linears lie: as its GGUF is written. Routers take no adapter."""
    architecture, model = find_architecture(base)
    plan = Plan.of("F16")
    architecture.place(plan, model, Weights(base))
    found = [
        Slot(tensor.name, tuple((str(piece.source).removesuffix(".weight"), piece.change) for piece in tensor.pieces))
        for tensor in plan.tensors
        if len(tensor.shape) > 1
        and len(tensor.sources) == len(tensor.pieces)
        and tensor.name != "token_embd.weight"
        and ".ffn_gate_inp." not in tensor.name
    ]
    return architecture.name, found


def _settings(adapter: Path) -> dict[str, Any]:
    path = adapter / "adapter_config.json"
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if settings["peft_type"] != "LORA":
            raise ExportError(f"{path}: peft_type is {settings['peft_type']!r}; llama.cpp adds LORA.", hint=_WHOLE)
        float(settings["lora_alpha"]), int(settings["r"])
    except FileNotFoundError:
        raise ExportError(
            f"{adapter}: not an adapter, it has no adapter_config.json.",
            hint="Name the adapter folder of a run, such as runs/NAME/adapter.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: cannot be read ({type(error).__name__}: {error}).") from None
    more = [key for key, plain in _PLAIN.items() if settings.get(key) not in plain]
    if more:
        told = ", ".join(f"{key}: {settings[key]}" for key in more)
        raise ExportError(
            f"{path}: llama.cpp cannot add what this adapter has beside its matrices ({told}).", hint=_WHOLE
        )
    return settings


def _pairs(adapter: Path, settings: Mapping[str, Any]) -> dict[str, Pair]:
    """The adapter's pairs by module path of the base."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = adapter / "adapter_model.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path}: cannot be read ({error}).", hint="Copy the adapter again.") from None
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, half = name.removeprefix(_INSIDE).removesuffix(".weight").rpartition(".lora_")
        if half not in ("A", "B") or tensor.ndim != 2:
            raise ExportError(f"{path}: {name} is no half of a linear's adapter.", hint=_WHOLE)
        if not bool(torch.isfinite(tensor).all()):
            raise ExportError(f"{path}: {name} holds NaN or infinity.", hint="The training diverged.")
        halves.setdefault(module, {})[half] = tensor
    found = {}
    for module, pair in halves.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise ExportError(f"{path}: A and B of {module} do not belong together.", hint="Copy the adapter again.")
        rank = pair["A"].shape[0]
        alpha = float(_of_pattern(settings.get("alpha_pattern"), module, settings["lora_alpha"]))
        found[module] = Pair(pair["A"], pair["B"], alpha / (rank**0.5 if settings.get("use_rslora") else rank))
    if not found:
        raise ExportError(f"{path}: the adapter is empty.")
    return found


def _of_pattern(pattern: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's rule: the first key that the module's name ends with, as a whole part or a regular expression."""
    import re

    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _require_places(adapter: Path, pairs: Mapping[str, Pair], slots: Sequence[Slot]) -> None:
    places = {linear for slot in slots for linear, _ in slot.parts}
    if outside := sorted(set(pairs) - places):
        raise ExportError(
            f"{adapter}: {len(outside)} of its linears are none of the base's GGUF, such as {outside[0]}.",
            hint=f"llama.cpp adds to the language model's linears only. {_WHOLE}",
        )


def _require_fit(adapter: Path, base: ModelFolder, slots: Sequence[Slot], pairs: Mapping[str, Pair]) -> None:
    stored = base.tensors()
    for linear in sorted({linear for slot in slots for linear, _ in slot.parts if linear in pairs}):
        name, pair = f"{linear}.weight", pairs[linear]
        found = (pair.b.shape[0], pair.a.shape[1])
        if name not in stored or stored[name].shape != found:
            expected = stored[name].shape if name in stored else "none (it is tied to the embedding)"
            raise ExportError(f"{adapter}: made for {linear} of shape {found}, the base's is {expected}.",
                              hint="Name the base that it was trained on with --base.")  # fmt: skip


def _stacked(slot: Slot, pairs: Mapping[str, Pair], alpha: float) -> tuple[Tensor, Tensor]:
    """lora_a and lora_b of a tensor. llama.cpp knows one alpha and multiplies by alpha / rank: where that is not this
    adapter's scale, as with rsLoRA or single linears' own ranks and alphas, the rest of it goes into lora_b.
    """
    import torch
    from torch.nn.functional import pad

    known = [pairs[linear] for linear, _ in slot.parts if linear in pairs]
    rank = max(len(pair.a) for pair in known)
    nothing = Pair(torch.zeros_like(known[0].a[:0]), torch.zeros_like(known[0].b[:, :0]), 0.0)
    stack_a, stack_b = [], []
    for linear, change in slot.parts:
        pair = pairs.get(linear, nothing)
        ratio, missing = pair.scale * rank / alpha, rank - len(pair.a)
        b = pair.b if ratio == 1 else pair.b.float() * ratio
        stack_a.append(pad(pair.a, (0, 0, 0, missing)))
        stack_b.append(pad(b if change is None else change(b), (0, missing)))
    if len(slot.parts) == 1:
        return stack_a[0], stack_b[0]
    return torch.stack(stack_a), torch.stack([b.to(stack_b[0].dtype) for b in stack_b])


def _write(path: Path, arch: str, alpha: float, tensors: Mapping[str, Tensor], name: str) -> None:
    import torch
    from gguf import GGUFWriter

    writer = GGUFWriter(path, arch)
    try:
        writer.add_type("adapter")
        writer.add_name(name)
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        for tensor, values in tensors.items():
            kept = values if values.dtype == torch.float16 else values.float()  # numpy knows no bfloat16
            writer.add_tensor(tensor, kept.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
