"""How much each input of a linear weighs: the mean of its square over conversations of the tuning domain, pictures included.

Quantizers that know it (llama.cpp's K- and IQ-quants) keep the columns exact that large inputs meet. llama.cpp's own tool
measures it on text; here torch does, so that the inputs that image features cause are among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgereverie.errors import ExportError
from edgereverie.export.base import Case, Progress, silent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgereverie.backbones.base import ModelFolder

# By GGUF tensor name, the linears (by module path) whose inputs its matrices meet: one for a plain matrix, one per expert
# for stacked ones. A linear may serve several tensors, as where one fused matrix becomes three.
Linears = Mapping[str, Sequence[str]]


def is_due(quantization: str, wish: bool | None) -> bool:
    """Whether to measure: as wished, else where bits are few.

    Measured on the tuned starter over three seeds (benchmarks/importance.py): at two bits CHAIR_i falls from 2.5 to 1.8 %; at
    three and four the scores are the same with and without, while some more top tokens are kept (1.0 and 0.6 percent). From
    four bits on that does not pay for running the whole model.

    >>> [is_due(name, None) for name in ("Q2_K", "IQ3_XXS", "Q3_K_M", "IQ4_XS", "Q4_K_M")]
    [True, True, True, False, False]
    """
    few = quantization.startswith(("Q2_", "Q3_", "IQ1_", "IQ2_", "IQ3_"))
    return few if wish is None else wish


@dataclass(frozen=True, slots=True)
class Importance:
    """squares: sums of squared inputs, (matrices, width) float32, by GGUF tensor name. counts: the rows that each matrix saw,
    (matrices,) float32.
    """

    squares: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]

    def means(self) -> dict[str, np.ndarray]:
        """Mean squared inputs, (matrices, width), for ``quantise``.

        An expert that saw no token gets the mean over all rows that the others saw: it stands behind the same stream, and
        nothing else is known of it. Where nobody saw any, all columns weigh 1.
        """
        found = {}
        for name, squares in self.squares.items():
            counts = self.counts[name][:, None]
            if (total := counts.sum()) == 0:
                found[name] = np.ones_like(squares)
                continue
            overall = squares.sum(0, keepdims=True) / total
            found[name] = np.where(counts > 0, squares / np.maximum(counts, 1), overall).astype(np.float32)
        return found


def measure_importance(
    folder: ModelFolder, linears: Linears, cases: Sequence[Case], progress: Progress = silent
) -> Importance:
    """The importance of a model folder's linears over ``cases``.

    Memory: one layer of the model in 32 bit, the activations of one case, and one vector for each linear. Raises
    ExportError when there is nothing to measure on.
    """
    if not any(pixels is not None for _, pixels in cases):
        raise ExportError(
            "An importance matrix needs conversations with pictures to be measured on; there are none.",
            hint="Export through `edgereverie export`, which draws them, or pass prompts.",
        )
    return collect(folder.load_widened(), linears, cases, progress)


def collect(model: nn.Module, linears: Linears, cases: Sequence[Case], progress: Progress = silent) -> Importance:
    """What a loaded model's linears see in one forward pass for each case. The model is left as it was."""
    import torch

    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}

    def note(path: str, inputs: Tensor) -> None:
        seen = inputs.detach().reshape(-1, inputs.shape[-1]).float()
        squares = seen.square().sum(0, dtype=torch.float64)
        sums[path] = sums[path] + squares if path in sums else squares
        rows[path] = rows.get(path, 0) + len(seen)

    with torch.no_grad(), _watched(model, {path for paths in linears.values() for path in paths}, note):
        for done, (ids, pixels) in enumerate(cases):
            progress("measuring importance", done / len(cases))
            given = {} if pixels is None else {"pixel_values": torch.from_numpy(pixels)[None]}
            tokens = torch.tensor([list(ids)])
            model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False, **given)
    squares, counts = {}, {}
    for name, paths in linears.items():
        width = _width(model.get_submodule(paths[0]))
        squares[name] = np.stack(
            [sums[path].numpy() if path in sums else np.zeros(width) for path in paths]
        ).astype(np.float32)  # fmt: skip
        counts[name] = np.array([rows.get(path, 0) for path in paths], np.float32)
    return Importance(squares, counts)


@contextmanager
def _watched(model: nn.Module, paths: set[str], note: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Within, ``note`` is told each input of the linears at ``paths``. Raises ExportError for one that is not there."""
    hooks: list[Any] = []

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, arguments: note(path, arguments[0])

    try:
        for path in sorted(paths):
            try:
                module = model.get_submodule(path)
            except AttributeError:
                raise ExportError(f"The model has no linear {path!r} to measure the importance of.") from None
            hooks.append(module.register_forward_pre_hook(hook(path)))
        yield
    finally:
        for one in hooks:
            one.remove()


def _width(linear: nn.Module) -> int:
    return int(linear.weight.shape[1])  # type: ignore[union-attr,arg-type]


def write_importance(path: Path, importance: Importance, dataset: str) -> None:
    """Write llama.cpp's imatrix GGUF, which ``llama-quantize --imatrix`` and others read. dataset: what it was measured on.

    Format: tools/imatrix/imatrix.cpp of llama.cpp: ``NAME.in_sum2`` (width x matrices) and ``NAME.counts`` (1 x matrices),
    raw sums and counts, names in order. One chunk is one token, so that counts and chunks agree.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "imatrix")
    try:
        writer.add_type("imatrix")
        writer.add_array("imatrix.datasets", [dataset])
        most = max((float(counts.max()) for counts in importance.counts.values()), default=0.0)
        writer.add_uint32("imatrix.chunk_count", int(most))
        writer.add_uint32("imatrix.chunk_size", 1)
        for name in sorted(importance.squares):
            writer.add_tensor(f"{name}.in_sum2", importance.squares[name])
            writer.add_tensor(f"{name}.counts", importance.counts[name][:, None].copy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
