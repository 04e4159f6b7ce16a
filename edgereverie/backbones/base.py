"""What a backbone is, and what a model folder holds.

A model folder is a published checkpoint as it was published: a layout reads it where it lies, nothing is converted by hand
and nothing is written into it. In memory there is one form, the module tree of transformers' LLaVA. Everything that
training, export and runtime must agree on (chat format, image geometry, which linears an adapter touches) is decided
here, once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgereverie.backbones._checkpoint import Stored
from edgereverie.backbones._layouts.base import Described, Layout, read_json
from edgereverie.chat import ChatFormat, chat_format
from edgereverie.errors import BackboneError
from edgereverie.records import ImageSpec
from edgereverie.registry import BACKBONES, Registry

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

HUGGINGFACE = "huggingface"  # the layout that edgereverie writes
LAYOUTS = Registry("layout", "edgereverie.backbones._layouts", "LAYOUT")
Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class Backbone:
    """One family of models.

    exports: the language models' ``model_type`` that it stands for, each with the targets that can carry it. chats: the
    chat formats that its checkpoints were trained with. adapter_targets: the linears of the language model that LoRA adapts,
    by the last part of their names. fit: how pictures became square when its checkpoints were trained; holds where a folder
    leaves that to its reader. model_type, model: of the whole, and the class that is built, by its full name. sixteen_bit:
    linears of the language model that 4-bit quantization leaves out, by the last part of their names. marks: fields of the
    config, dotted, that tell it from a family of the same types.
    """

    name: str
    exports: Mapping[str, tuple[str, ...]]
    chats: tuple[ChatFormat, ...]
    adapter_targets: tuple[str, ...]
    fit: Literal["pad", "crop"] = "pad"
    model_type: str = "llava"
    model: str = "transformers.LlavaForConditionalGeneration"
    sixteen_bit: tuple[str, ...] = ()
    marks: Mapping[str, Any] = field(default_factory=dict)

    def recognises(self, config: Mapping[str, Any], chat: str) -> bool:
        return (
            config.get("model_type") == self.model_type
            and config.get("text_config", {}).get("model_type") in self.exports
            and chat in (known.name for known in self.chats)
            and all(_field(config, name) == value for name, value in self.marks.items())
        )


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder: its layout, its backbone, and what they say about it. Nothing heavy is loaded yet."""

    path: Path
    layout: str
    backbone: Backbone
    described: Described

    @property
    def config(self) -> Mapping[str, Any]:
        return self.described.config

    @property
    def image(self) -> ImageSpec:
        image = self.described.image
        return image if self.described.fit_told else replace(image, fit=self.backbone.fit)

    @property
    def chat(self) -> ChatFormat:
        return chat_format(self.described.chat)

    @property
    def exports(self) -> tuple[str, ...]:
        """The targets that can carry it."""
        return self.backbone.exports[self.config["text_config"]["model_type"]]

    @property
    def context(self) -> int:
        return int(self.config["text_config"]["max_position_embeddings"])

    def tokenizer(self) -> Tokenizer:
        return self.described.tokenizer()

    def files(self) -> tuple[Path, ...]:
        """The files that hold its weights, those of a separate vision tower or base among them."""
        return tuple(sorted({tensor.file for tensor in self.described.tensors().values()}))

    def tensors(self) -> dict[str, Stored]:
        """All weights under our names, unread. Raises BackboneError unless they are exactly the model's."""
        from edgereverie.backbones import _loading

        return _loading.fitting(self)

    def dtype(self) -> str:
        """The type that most weights have on disk, by torch's name."""
        types = [tensor.dtype for tensor in self.described.tensors().values()]
        return max(set(types), key=types.count)

    def load(
        self, precision: Precision = "fp32", quantization: Literal["none", "nf4"] = "none", *, on: str | None = None
    ) -> nn.Module:
        """The model in eval mode, on the device ``on``: by default the CUDA device where there is one, else the CPU.

        quantization nf4 puts the language model's linears in 4 bit and asserts that it did just that: the vision
        tower, the projector and lm_head stay as they are. Raises BackboneError for damaged or mismatched weights.
        """
        from edgereverie.backbones import _loading

        return _loading.load(self, DTYPES[precision], quantization, on or device())

    def load_widened(self) -> nn.Module:
        """The model in eval mode on the CPU, computing in float32 with its weights left in their files.

        For comparing with whatever was made of it: exact, in little more memory than one layer, and slower than ``load``.
        """
        from edgereverie.backbones import _loading, _widened

        return _widened.widen(_loading.load(self, self.dtype(), "none", "cpu"))


def open_folder(source: Path | str, *, revision: str | None = None) -> ModelFolder:
    """Read and check what a model folder, or a model of the hub by its id, says about itself.

    Raises BackboneError that names the file.
    """
    path = Path(source)
    if isinstance(source, str) and not path.exists():
        from edgereverie.backbones._hub import fetch

        path = fetch(source, revision=revision)
    config = read_json(path, "config.json")
    layout = find_layout(path, config)
    described = layout.read(path, config)
    _check_tokens(described, path)
    return ModelFolder(path, layout.name, find_backbone(described.config, described.chat, path), described)


def find_layout(path: Path, config: Mapping[str, Any]) -> Layout:
    for name in LAYOUTS.names():
        layout: Layout = LAYOUTS.get(name)
        if layout.recognises(path, config):
            return layout
    raise BackboneError(
        f"{path}: no backbone stands for model_type {config.get('model_type')!r} in this layout.",
        hint=f"Known layouts: {', '.join(LAYOUTS.names())}; known backbones: {', '.join(BACKBONES.names())}.",
    )


def find_backbone(config: Mapping[str, Any], chat: str, path: Path) -> Backbone:
    """The family of this config; of several, the one with the most marks."""
    known: list[Backbone] = [BACKBONES.get(name) for name in BACKBONES.names()]
    fitting = [backbone for backbone in known if backbone.recognises(config, chat)]
    if fitting:
        return max(fitting, key=lambda backbone: len(backbone.marks))
    text = config.get("text_config", {}).get("model_type")
    raise BackboneError(
        f"{path}: no backbone stands for model_type {config.get('model_type')!r} with text model {text!r} "
        f"and chat format {chat!r}.",
        hint=f"Known backbones: {', '.join(BACKBONES.names())}.",
    )


def _field(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _check_tokens(described: Described, path: Path) -> None:
    """The tokenizer knows the chat format's tokens, and the embedding has a row for each of its own."""
    chat, tokenizer = chat_format(described.chat), described.tokenizer()
    written = chat.begin + chat.system + chat.user + chat.assistant + chat.end
    absent = [token for token in chat.control if token in written and tokenizer.token_to_id(token) is None]
    if absent:
        raise BackboneError(
            f"{path}: the tokenizer lacks {', '.join(map(repr, absent))}, which the chat format {chat.name!r} writes.",
            hint="Take all tokenizer files (added_tokens.json and tokenizer_config.json too) from the model's own folder.",
        )
    wanted, found = described.config["image_token_index"], tokenizer.token_to_id(chat.image_token)
    if found is not None and found != wanted:
        raise BackboneError(
            f"{path}: {chat.image_token!r} is token {found} of the tokenizer, config.json says {wanted} "
            "(image_token_index).",
            hint="Take config.json and the tokenizer from the same checkpoint.",
        )
    rows = described.config["text_config"]["vocab_size"]
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if max(largest, wanted) >= rows:
        raise BackboneError(
            f"{path}: the tokenizer's ids go up to {max(largest, wanted):,}, the embedding has {rows:,} rows "
            "(vocab_size in config.json).",
            hint="Take config.json and the tokenizer from the same checkpoint.",
        )


def device() -> str:
    """``cuda`` where torch sees a card, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def save_folder(model: nn.Module, source: ModelFolder, out: Path) -> None:
    """Write ``model`` into the existing folder ``out``, in transformers' own layout whatever the source's was."""
    from edgereverie.backbones import _writing

    model.save_pretrained(out, max_shard_size="2GB")
    _writing.write_companions(out, source.tokenizer(), source.image, source.described.chat)


def write_companions(folder: ModelFolder, out: Path) -> None:
    """Tokenizer, chat template and picture's geometry as transformers reads them, into the existing folder ``out``."""
    from edgereverie.backbones import _writing

    _writing.write_companions(out, folder.tokenizer(), folder.image, folder.described.chat)


def write_folder(folder: ModelFolder, out: Path) -> None:
    """A published folder, whatever its layout, into the existing folder ``out`` in transformers' own, without building it."""
    from edgereverie.backbones import _writing

    _writing.write_folder(folder, out)
