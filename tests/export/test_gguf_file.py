"""How the file is written: types, some rows at a time, damaged weights, memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edgereverie.backbones.base import open_folder
from edgereverie.errors import BackboneError, ExportError
from edgereverie.export import gguf_file
from edgereverie.export.base import ParityBound, silent
from edgereverie.export.gguf_file import Piece, Placed, check_complete, write_gguf
from edgereverie.export.language import write_language
from edgereverie.export.parity import compare
from edgereverie.export.weights import Weights

DOWN = "model.language_model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def text_gguf(tiny, tmp_path_factory):
    """The tiny language model as a GGUF of one of the types that are packed here."""
    folder = tmp_path_factory.mktemp("gguf")

    def write(quantization):
        path = folder / f"{quantization}.gguf"
        if not path.exists():
            write_language(path, tiny, Weights(tiny), quantization, silent)
        return path

    return write


def test_the_reference_engine_is_transformers_own_forward(reference, cases):
    for ids, pixels in cases:
        stepped = reference.open().feed(ids, None if pixels is None else reference.encode(pixels), logits="all")
        assert np.abs(stepped - reference.forward(ids, pixels)).max() < 1e-5


# F32: other order of sums only. F16: weights and activations keep 11 bits; the tiny model's layers are amplified 2.5 times,
# which amplifies their rounding too. The rest: blocks of 32 with 8 to 4 bits; random weights are the worst case.
@pytest.mark.parametrize(
    ("quantization", "largest", "top1"),
    [("F32", 2e-4, 1.0), ("F16", 6e-3, 0.99), ("BF16", 0.05, 0.95), ("Q8_0", 0.15, 0.9), ("Q5_1", 0.8, 0.6),
     ("Q5_0", 0.8, 0.6), ("Q4_1", 2.0, 0.4), ("Q4_0", 2.0, 0.4)],
)  # fmt: skip
def test_logits_are_near_torchs(quantization, largest, top1, text_gguf, run_gguf, reference, cases):
    parity = compare(reference, run_gguf(text_gguf(quantization)), cases, ParityBound(min_top1=0.0))
    assert parity.positions > 100 and parity.image_cases == 3
    assert parity.max_logit_diff <= largest and parity.top1 >= top1, parity


def test_some_rows_at_a_time_is_the_same_file(tiny, text_gguf, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "_AT_ONCE", 1000)
    for quantization in ("F16", "Q4_0"):
        write_language(tmp_path / "x.gguf", tiny, Weights(tiny), quantization, silent)
        assert (tmp_path / "x.gguf").read_bytes() == text_gguf(quantization).read_bytes()


def test_types_as_the_package_packs_them(tiny, text_gguf):
    """gguf's own packing of the whole tensor; norms in 32 bits, the vocabulary's matrices in 8 where others have 4 and 5."""
    from gguf import GGMLQuantizationType, GGUFReader, quants

    values = Weights(tiny).array(DOWN)
    for quantization in ("F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"):
        kind = GGMLQuantizationType[quantization]
        tensors = {tensor.name: tensor for tensor in GGUFReader(text_gguf(quantization)).tensors}
        found = tensors["blk.1.ffn_down.weight"]
        assert found.tensor_type == kind and tuple(found.shape) == values.shape[::-1]
        packed = np.ascontiguousarray(quants.quantize(values, kind)).view(np.uint8)
        assert np.array_equal(found.data.view(np.uint8).ravel(), packed.ravel())
        outer = kind if quantization in ("F16", "BF16", "Q8_0") else GGMLQuantizationType.Q8_0
        assert tensors["token_embd.weight"].tensor_type == tensors["output.weight"].tensor_type == outer
        assert tensors["output_norm.weight"].tensor_type == GGMLQuantizationType.F32


class Held:
    """Weights that are given, in the place of a folder's."""

    path = "held"

    def __init__(self, **tensors):
        import torch

        self.tensors = {name: torch.from_numpy(np.asarray(values, np.float32)) for name, values in tensors.items()}

    def shape(self, name):
        return tuple(self.tensors[name].shape)

    def tensor(self, name):
        return self.tensors[name]

    def names(self, prefix=""):
        return [name for name in self.tensors if name.startswith(prefix)]

    require_finite = Weights.require_finite


def test_a_tensor_is_its_pieces_one_after_the_other(tmp_path):
    from gguf import GGMLQuantizationType, GGUFReader

    f32 = GGMLQuantizationType.F32
    a, b = np.arange(12.0).reshape(3, 4), np.arange(12.0, 24).reshape(3, 4)
    pieces = (Piece("b", (3, 4), lambda t: t[1:]), Piece(None, (1, 4)), Piece("a", (3, 4), lambda t: -t, by_row=True))
    placed = [Placed("stack", pieces, (2, 3, 4), f32), Placed("a", "a", (3, 4), f32)]
    weights = Held(a=a, b=b)
    check_complete(weights, placed, ("",))
    write_gguf(tmp_path / "x.gguf", "llama", lambda writer: None, placed, weights, silent)
    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(tmp_path / "x.gguf").tensors}
    assert np.array_equal(tensors["stack"].reshape(6, 4), np.concatenate([b[1:], np.zeros((1, 4)), -a]))
    assert np.array_equal(tensors["a"], a)
    with pytest.raises(ExportError, match=r"no place for b \(1 in all\)"):
        check_complete(weights, placed[1:], ("",))
    wrong = [replace(placed[0], source=(*pieces[:2], Piece("a", (4, 3))))]
    with pytest.raises(ExportError, match=r"a has shape \(3, 4\), config.json says \(4, 3\)"):
        write_gguf(tmp_path / "y.gguf", "llama", lambda writer: None, wrong, weights, silent)
    assert not (tmp_path / "y.gguf").exists()


def test_changed_weights_are_changed_for_every_reader(tiny):
    weights = Weights(tiny)
    other = weights.changed({DOWN: lambda tensor: tensor * 2, "not.there": lambda tensor: tensor})
    assert np.array_equal(other.array(DOWN), 2 * weights.array(DOWN))
    assert other.shape(DOWN) == weights.shape(DOWN) and other.names() == weights.names() and "not.there" not in other


def test_sharded_bf16_weights_give_the_same_file_as_one_shard(tiny, tmp_path):
    import torch
    from transformers import LlavaForConditionalGeneration

    model = LlavaForConditionalGeneration.from_pretrained(tiny.path, dtype=torch.bfloat16)
    files = []
    for name, size in (("one", "5GB"), ("many", "2MB")):
        folder = tmp_path / name
        shutil.copytree(tiny.path, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        model.save_pretrained(folder, max_shard_size=size)
        opened = open_folder(folder)
        write_language(tmp_path / f"{name}.gguf", opened, Weights(opened), "BF16", silent)
        files.append((tmp_path / f"{name}.gguf").read_bytes())
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    assert files[0] == files[1]
    expected = model.model.language_model.layers[1].mlp.down_proj.weight.float().detach().numpy()
    assert np.array_equal(Weights(open_folder(tmp_path / "many")).array(DOWN), expected)


def test_damaged_and_foreign_weights_are_named(tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny.path, tmp_path / "m")
    file, whole = tmp_path / "m" / "model.safetensors", load_file(tiny.path / "model.safetensors")
    name = next(name for name in whole if name.endswith("layers.1.mlp.down_proj.weight"))

    def write(changed):
        save_file(changed, file)
        folder = open_folder(tmp_path / "m")
        write_language(tmp_path / "x.gguf", folder, Weights(folder), "F16", silent)

    with pytest.raises(BackboneError, match=r"1 tensors of the model are missing.*layers\.1\.mlp\.down_proj"):
        write({key: value for key, value in whole.items() if key != name})
    with pytest.raises(BackboneError, match=r"belong nowhere in this model: .*down_proj\.lora_A\.weight"):
        write(whole | {name.replace("weight", "lora_A.weight"): np.zeros((8, 512), np.float32)})
    with pytest.raises(ExportError, match=r"down_proj\.weight holds NaN or infinity"):
        write(whole | {name: np.full_like(whole[name], np.nan)})
    with pytest.raises(ExportError, match="more than F16 holds") as caught:
        write(whole | {name: whole[name] * np.float32(1e8)})
    assert "BF16" in caught.value.hint
    file.write_bytes((tiny.path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(BackboneError, match="cut short"):
        Weights(open_folder(tmp_path / "m"))


_WRITE = """
import sys
from pathlib import Path
from edgereverie.backbones.base import open_folder
from edgereverie.export.base import silent
from edgereverie.export.language import write_language
from edgereverie.export.weights import Weights

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

import gguf, transformers, torch
folder = open_folder(Path(sys.argv[1]))
weights = Weights(folder)
from edgereverie.export.architectures.base import find_architecture
find_architecture(folder)
folder.tokenizer()
before = peak()
write_language(Path(sys.argv[2]), folder, weights, sys.argv[3], silent)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["F16", "Q8_0", "Q4_0"])
def test_memory_stays_near_the_largest_tensor(quantization, tmp_path):
    """What writing adds to a process that has everything imported: the largest tensor and a few working copies of some
    rows, far less than the model's 700 MB."""
    import torch
    from safetensors.torch import save_file

    from edgereverie.backbones import _loading, starter

    folder = tmp_path / "m"
    folder.mkdir()
    starter.build(folder, ["A red ring."] * 30, 1)
    import json

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"] |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 18,
                              "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 32064}  # fmt: skip
    config["vision_config"]["hidden_size"] = 192  # another family than the starter's
    config["vision_config"]["num_attention_heads"] = 4
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes = {name: value.shape for name, value in _loading.skeleton(open_folder(folder)).state_dict().items()}
    tensors = {name: torch.randn(shape, dtype=torch.bfloat16) * 0.02 for name, shape in shapes.items()}
    whole = sum(tensor.nbytes for tensor in tensors.values())
    largest = max(tensor.nbytes for tensor in tensors.values())
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    del tensors
    command = [sys.executable, "-c", _WRITE, str(folder), str(tmp_path / "x.gguf"), quantization]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    added = int(done.stdout)
    print(quantization, f"whole {whole:,} largest {largest:,} added {added:,}")
    assert whole > 600e6 and added < largest + 130e6, f"{added:,}"
