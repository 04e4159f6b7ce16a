"""Base and adapter, added in llama.cpp, say what base and adapter, merged in torch, say."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie.backbones.base import ModelFolder
from edgereverie.errors import ExportError
from edgereverie.export.base import ParityBound, Profile
from edgereverie.export.lora_gguf import Pair, Slot, _stacked, write_lora_gguf
from edgereverie.export.write import export_bundle

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
llama = pytest.importorskip("llama_cpp")
# peft asks for an attribute that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
_spec = importlib.util.spec_from_file_location("_export_models", Path(__file__).with_name("_models.py"))
_models = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _models
_spec.loader.exec_module(_models)
KINDS = _models.KINDS
LINEARS = r"model\.language_model\..*\.(qkv_proj|o_proj|gate_up_proj|down_proj)"


@pytest.fixture(scope="module")
def adapter(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    """A PEFT adapter of random matrices, saved: (its folder, the base with it, switched on)."""

    def make(target: str = LINEARS, **settings: Any) -> tuple[Path, Any]:
        torch.manual_seed(7)
        config = peft.LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": target} | settings))
        model = peft.get_peft_model(tiny.load(), config).eval()
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                torch.nn.init.normal_(parameter, std=0.08)
        folder = tmp_path_factory.mktemp("adapters") / "adapter"
        model.save_pretrained(folder)
        return folder, model

    return make


@pytest.fixture(scope="module")
def base(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    profile = Profile(name="test", target="gguf", quantization="F32", description="", parity=ParityBound(min_top1=0.0))
    return export_bundle(tiny, profile, tmp_path_factory.mktemp("base") / "f32", made_from={}).file("model")


def logits_with(engine: Any, lora: Path, ids: list[int], features: np.ndarray | None) -> np.ndarray:
    """The engine's logits with the adapter added to each context that it opens, by llama.cpp's own calls."""
    added = llama.llama_adapter_lora_init(engine.model, str(lora).encode())
    assert added
    init = llama.llama_init_from_model

    def opened(model: Any, params: Any) -> Any:
        context = init(model, params)
        # A bare pointer, as the C function takes an array of them.
        pointers = (ctypes.c_void_p * 1)(ctypes.cast(added, ctypes.c_void_p).value)
        scales = (ctypes.c_float * 1)(1.0)
        kind = llama.llama_adapter_lora_p_ctypes
        array = ctypes.cast(pointers, ctypes.POINTER(kind))
        assert llama.llama_set_adapters_lora(context, array, 1, scales) == 0
        return context

    patch = pytest.MonkeyPatch()
    patch.setattr(llama, "llama_init_from_model", opened)
    try:
        return engine.open().feed(ids, features, logits="all")
    finally:
        patch.undo()
        llama.llama_adapter_lora_free(added)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"o_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 20}},
    ],
    ids=["plain", "rslora", "patterns"],
)
def test_added_in_llama_cpp_equals_merged_in_torch(adapter, base, tiny, run_gguf, reference, cases, tmp_path, settings):
    folder, model = adapter(**settings)
    path = write_lora_gguf(folder, tiny, tmp_path / "adapter.gguf")
    engine = run_gguf(base)
    largest, effect = 0.0, 0.0
    for ids, pixels in cases[:4]:
        features = None if pixels is None else reference.encode(pixels)
        pictures = {} if pixels is None else {"pixel_values": torch.from_numpy(pixels)[None]}
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids]), **pictures).logits[0].numpy()
        largest = max(largest, float(np.abs(logits_with(engine, path, ids, features) - expected).max()))
        effect = max(effect, float(np.abs(reference.forward(ids, pixels) - expected).max()))
    engine.close()
    assert effect > 0.5  # the adapter does something
    assert largest < 3e-4  # another order of 32-bit sums


def test_the_file_is_what_llama_cpps_converter_writes(adapter, tiny, tmp_path):
    """Keys of convert_lora_to_gguf.py's set_type and set_gguf_parameters; ne of lora_a (in, rank), of lora_b (rank, out)."""
    from gguf import GGUFReader
    from safetensors.numpy import load_file

    folder, _ = adapter()
    reader = GGUFReader(write_lora_gguf(folder, tiny, tmp_path / "adapter.gguf"))
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert fields == {"general.architecture": "phi3", "general.type": "adapter", "general.name": "adapter",
                      "adapter.type": "lora", "adapter.lora.alpha": 6.0}  # fmt: skip
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 4 * 4 * 2
    assert tensors["blk.2.ffn_up.weight.lora_a"].shape.tolist() == [256, 4]
    assert tensors["blk.2.ffn_up.weight.lora_b"].shape.tolist() == [4, 1024]
    stored = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.language_model.layers.2.mlp.gate_up_proj.lora_B.weight"
    assert np.array_equal(tensors["blk.2.ffn_up.weight.lora_b"].data, stored[name])
    assert not list(tmp_path.glob(".*"))


# One of each architecture: rows that change places, fused ones taken apart, stacks of experts, outputs without their mean.
@pytest.mark.parametrize(
    ("kind", "linears"),
    [
        ("LLaVA-1.5 in transformers' layout", "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"),
        ("LLaVA-Interleave", "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"),
        ("MoE-LLaVA on Phi-3", "qkv_proj|o_proj|gate_up_proj|down_proj"),
        ("MoE-LLaVA on Qwen", "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"),
        ("MoE-LLaVA on StableLM-2", "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"),
    ],
)
def test_every_architecture_takes_an_adapter(kind, linears, run_gguf, tmp_path):
    from edgereverie.backbones.base import open_folder
    from edgereverie.export.base import silent
    from edgereverie.export.language import write_language
    from edgereverie.export.weights import Weights

    folder = open_folder(KINDS[kind][1](tmp_path / "made"))
    torch.manual_seed(7)
    pattern = rf"model\.language_model\..*\.({linears})"
    model = peft.get_peft_model(folder.load(), peft.LoraConfig(r=4, lora_alpha=6, target_modules=pattern)).eval()
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(tmp_path / "adapter")
    base = tmp_path / "base.gguf"
    write_language(base, folder, Weights(folder), "F32", silent)
    path = write_lora_gguf(tmp_path / "adapter", folder, tmp_path / "adapter.gguf")
    engine = run_gguf(base)
    largest, effect = 0.0, 0.0
    for seed in range(6):
        ids = np.random.default_rng(seed).integers(3, 260, 20).tolist()
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).logits[0].numpy()
            with model.disable_adapter():
                plain = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        largest = max(largest, float(np.abs(logits_with(engine, path, ids, None) - expected).max()))
        effect = max(effect, float(np.abs(plain - expected).max()))
    engine.close()
    assert effect > 0.5
    assert largest < 3e-4


def test_stacked_experts_have_one_rank_and_scale():
    """Expert 0 has rank 2 and scale 3, expert 1 none, expert 2 rank 1 and scale 5; alpha 4 over rank 2 is 2."""
    torch.manual_seed(1)
    first, third = Pair(torch.randn(2, 5), torch.randn(4, 2), 3.0), Pair(torch.randn(1, 5), torch.randn(4, 1), 5.0)
    halved = Slot("x", tuple((name, lambda rows: rows[:3]) for name in ("e0", "e1", "e2")))
    a, b = _stacked(halved, {"e0": first, "e2": third}, alpha=4.0)
    assert a.shape == (3, 2, 5) and b.shape == (3, 3, 2)
    products = 2.0 * b @ a
    torch.testing.assert_close(products[0], 3 * (first.b @ first.a)[:3])
    torch.testing.assert_close(products[2], 5 * (third.b @ third.a)[:3])
    assert not products[1].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": r"model\.vision_tower\..*\.q_proj"}, r"none of the base's GGUF, such as model\.vision_tower"),
        ({"target": r"model\.multi_modal_projector\.linear_1"}, r"such as model\.multi_modal_projector\.linear_1"),
        ({"use_dora": True}, "use_dora: True"),
        ({"modules_to_save": ["linear_1"]}, r"modules_to_save: \['linear_1'\]"),
        ({"bias": "lora_only"}, "bias: lora_only"),
    ],
)
def test_what_llama_cpp_cannot_add_is_refused(adapter, tiny, tmp_path, settings, message):
    folder, _ = adapter(**settings)
    with pytest.raises(ExportError, match=message) as caught:
        write_lora_gguf(folder, tiny, tmp_path / "x.gguf")
    assert "export the whole model" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_adapters_are_refused(adapter, tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    whole, _ = adapter()
    tensors = load_file(whole / "adapter_model.safetensors")
    settings = json.loads((whole / "adapter_config.json").read_text())
    name = "base_model.model.model.language_model.layers.0.mlp.down_proj.lora_A.weight"

    def refuse(message: str, changed: dict[str, np.ndarray], **other: Any) -> None:
        save_file(changed, tmp_path / "adapter_model.safetensors")
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings | other))
        with pytest.raises(ExportError, match=message):
            write_lora_gguf(tmp_path, tiny, tmp_path / "x.gguf")
        assert not (tmp_path / "x.gguf").exists()

    refuse("do not belong together", {key: value for key, value in tensors.items() if key != name})
    refuse("holds NaN", tensors | {name: np.full_like(tensors[name], np.nan)})
    refuse(r"made for model\.language_model\.layers\.0\.mlp\.down_proj of shape \(256, 100\)",
           tensors | {name: tensors[name][:, :100].copy()})  # fmt: skip
    refuse("no half of a linear's adapter", tensors | {"base_model.model.lm_head.weight": tensors[name]})
    refuse("peft_type is 'IA3'", tensors, peft_type="IA3")
    refuse("the adapter is empty", {})
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ExportError, match="cannot be read"):
        write_lora_gguf(tmp_path, tiny, tmp_path / "x.gguf")
    with pytest.raises(ExportError, match="not an adapter"):
        write_lora_gguf(tmp_path / "none", tiny, tmp_path / "x.gguf")


def test_the_command_writes_it_beside_the_adapter(tuned_run, tmp_path):
    from gguf import GGUFReader
    from typer.testing import CliRunner

    from edgereverie.cli.app import app

    run = CliRunner().invoke
    command = ["export", str(tuned_run), "--lora-gguf", "--out", str(tmp_path / "out")]
    assert run(app, [*command, "--profile", "gguf-f16"]).exit_code == 2
    assert run(app, command).exit_code == 0
    written = tmp_path / "out" / "tuned-lora.gguf"
    assert len(GGUFReader(written).tensors) == 4 * 4 * 2
    before = written.read_bytes()
    assert run(app, command).exit_code != 0  # not replaced unasked
    assert run(app, [*command, "--force"]).exit_code == 0 and written.read_bytes() == before


def test_llama_cpps_converter_writes_the_same_tensors(adapter, tiny, tmp_path):
    """An outside witness: set EDGEREVERIE_LLAMA_CPP to vendor/llama.cpp of llama-cpp-python's source archive.

    It reads text models only, so the language model's names lose what LLaVA puts before them.
    """
    import os
    import subprocess
    import sys

    from gguf import GGUFReader
    from safetensors.numpy import load_file, save_file

    checkout = os.environ.get("EDGEREVERIE_LLAMA_CPP")
    if not checkout:
        pytest.skip("EDGEREVERIE_LLAMA_CPP names no llama.cpp")
    folder, _ = adapter()
    base, text_only = tmp_path / "base", tmp_path / "adapter"
    base.mkdir(), text_only.mkdir()
    text = dict(tiny.config["text_config"]) | {"architectures": ["Phi3ForCausalLM"]}
    (base / "config.json").write_text(json.dumps(text))
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {name.replace("model.language_model.", "model."): values for name, values in tensors.items()}
    save_file(renamed, text_only / "adapter_model.safetensors")
    (text_only / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    command = [sys.executable, "convert_lora_to_gguf.py", "--base", str(base), "--outtype", "f32",
               "--outfile", str(tmp_path / "theirs.gguf"), str(text_only)]  # fmt: skip
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    write_lora_gguf(folder, tiny, tmp_path / "ours.gguf")
    ours, theirs = ({tensor.name: tensor for tensor in GGUFReader(tmp_path / f"{name}.gguf").tensors}
                    for name in ("ours", "theirs"))  # fmt: skip
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert tensor.shape.tolist() == theirs[name].shape.tolist()
        assert np.array_equal(tensor.data, theirs[name].data)
