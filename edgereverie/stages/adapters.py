"""Adapters that leave alone, without their base."""

from __future__ import annotations

from pathlib import Path

from edgereverie.errors import ExportError, MissingPackage
from edgereverie.stages._console import console
from edgereverie.stages.backbones import model_folder


def export_adapter(adapter: Path, out: Path | None = None, *, base: str | None = None, force: bool = False) -> Path:
    """The adapter as a GGUF of some megabytes, which llama.cpp adds to its base's: ``RUN-lora.gguf``.

    adapter: an adapter, or its run folder. out: the folder to write to; ``bundles`` beside the adapter by default. base: the
    model that it was trained on, where the adapter does not name it. Raises ExportError for an adapter that reaches beyond
    the language model's linears.
    """
    adapter = adapter / "adapter" if (adapter / "adapter" / "adapter_config.json").is_file() else adapter
    try:
        import gguf  # noqa: F401

        from edgereverie.export.lora_gguf import write_lora_gguf
        from edgereverie.tuning.merge import base_of_adapter
    except ImportError as error:
        raise MissingPackage(error.name or "gguf", "Exporting an adapter", "export") from None
    folder = model_folder(base or base_of_adapter(adapter))
    stem = adapter.resolve().parent.name if adapter.name == "adapter" else adapter.name
    final = (out or adapter.parent / "bundles") / f"{stem}-lora.gguf"
    if final.exists() and not force:
        raise ExportError(f"{final} exists already.", hint="Choose another place, or pass --force to replace it.")
    final.parent.mkdir(parents=True, exist_ok=True)
    write_lora_gguf(adapter, folder, final)
    console.print(f"export {adapter}: {final} ({final.stat().st_size / 1e6:.1f} MB)")
    return final
