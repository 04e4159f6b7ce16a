"""The importance matrix is the mean square of what linears see, and quantizers keep what it calls heavy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgereverie.backbones.base import ModelFolder
from edgereverie.bundle import Bundle
from edgereverie.errors import ExportError
from edgereverie.export.base import ParityBound, Profile
from edgereverie.export.importance import Importance, collect, measure_importance, write_importance
from edgereverie.export.quantise import NEED_IMPORTANCE, quantise
from edgereverie.export.write import export_bundle

torch = pytest.importorskip("torch")
LAYERS = "model.language_model.layers."


def profile(quantization: str, **settings: object) -> Profile:
    return Profile(name="test", target="gguf", quantization=quantization, description="", settings=settings,
                   parity=ParityBound(min_top1=0.0))  # fmt: skip


@pytest.fixture(scope="module")
def whole(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny language model as an F32 GGUF."""
    out = tmp_path_factory.mktemp("whole") / "f32"
    return export_bundle(tiny, profile("F32"), out, made_from={}).file("model")


@pytest.fixture(scope="module")
def importance(tiny, cases) -> Importance:
    linears = {
        f"blk.{layer}.{ours}.weight": (f"{LAYERS}{layer}.{theirs}",)
        for layer in range(4)
        for ours, theirs in (("attn_qkv", "self_attn.qkv_proj"), ("attn_output", "self_attn.o_proj"),
                             ("ffn_up", "mlp.gate_up_proj"), ("ffn_down", "mlp.down_proj"))
    }  # fmt: skip
    return measure_importance(tiny, linears | {"output.weight": ("lm_head",)}, cases)


def test_it_is_the_mean_square_of_the_normalised_stream(tiny, cases, importance):
    """transformers' hidden_states, normalised here: x * weight / sqrt(mean(x^2) + eps) is what qkv_proj and lm_head see."""
    model = tiny.load()
    first, last, rows = np.zeros(256), np.zeros(256), 0
    for ids, pixels in cases:
        given = {} if pixels is None else {"pixel_values": torch.from_numpy(pixels)[None]}
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True, **given).hidden_states
        stream = states[0][0].double().numpy()
        seen = stream / np.sqrt((stream**2).mean(-1, keepdims=True) + 1e-5)
        weight = model.model.language_model.layers[0].input_layernorm.weight.detach().numpy()
        first += ((seen * weight) ** 2).sum(0)
        last += (states[-1][0].double().numpy() ** 2).sum(0)  # transformers' last state is normalised already
        rows += len(ids)
    means = importance.means()
    np.testing.assert_allclose(means["blk.0.attn_qkv.weight"][0], first / rows, rtol=1e-4)
    np.testing.assert_allclose(means["output.weight"][0], last / rows, rtol=1e-4)
    assert importance.counts["output.weight"].tolist() == [rows]


def test_experts_share_the_tokens_and_idle_ones_get_the_mean():
    """Two linears behind a switch: by hand, [1, 2] and [3, 4] go to the first, [5, 6] to the second, none to the third."""

    class Switch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = torch.nn.ModuleList([torch.nn.Linear(2, 1) for _ in range(3)])

        def forward(self, input_ids, attention_mask, use_cache):
            self.experts[0](torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
            self.experts[1](torch.tensor([[5.0, 6.0]]))

    found = collect(Switch(), {"ffn_up_exps": ("experts.0", "experts.1", "experts.2")}, [([1], None)])
    assert found.squares["ffn_up_exps"].tolist() == [[10.0, 20.0], [25.0, 36.0], [0.0, 0.0]]
    assert found.counts["ffn_up_exps"].tolist() == [2.0, 1.0, 0.0]
    np.testing.assert_allclose(found.means()["ffn_up_exps"], [[5, 10], [25, 36], [35 / 3, 56 / 3]])
    nothing = Importance({"x": np.zeros((2, 3), np.float32)}, {"x": np.zeros(2, np.float32)})
    assert nothing.means()["x"].tolist() == [[1.0] * 3] * 2


def test_a_mixtures_experts_see_each_token_twice(tiny, cases, tmp_path):
    from edgereverie.backbones._upcycle import write_upcycled
    from edgereverie.backbones.base import open_folder

    out = tmp_path / "moe"
    out.mkdir()
    write_upcycled(tiny, out, layers="sparse", experts=4, top_k=2, seed=0)
    experts = tuple(f"{LAYERS}0.mlp.experts.{index}.gate_up_proj" for index in range(4))
    linears = {"blk.0.ffn_up_exps.weight": experts, "gate": (f"{LAYERS}0.mlp.wg",)}
    found = measure_importance(open_folder(out), linears, cases)
    rows = sum(len(ids) for ids, _ in cases)
    assert found.counts["blk.0.ffn_up_exps.weight"].sum() == 2 * rows and found.counts["gate"].tolist() == [rows]
    np.testing.assert_allclose(
        found.squares["blk.0.ffn_up_exps.weight"].sum(0), 2 * found.squares["gate"][0], rtol=1e-4
    )


@pytest.mark.parametrize("quantization", ["Q4_K_M", "Q3_K_M", "Q2_K"])
def test_weighted_errors_shrink(quantization, whole, importance, tmp_path):
    """What quantizing with importance promises: a smaller sum over weights of importance x squared error."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    means = importance.means()

    def error(given):
        quantise(whole, tmp_path / "q.gguf", quantization, importance=given, threads=1)
        exact = {tensor.name: tensor.data for tensor in GGUFReader(whole).tensors}
        total = 0.0
        for tensor in GGUFReader(tmp_path / "q.gguf").tensors:
            if tensor.name in means:
                found = dequantize(tensor.data, tensor.tensor_type)
                total += float(((found - exact[tensor.name]) ** 2 * means[tensor.name]).sum())
        return total

    assert error(means) < 0.97 * error(None)


def test_coarse_code_books_refuse_without_and_work_with(whole, importance, run_gguf, cases, tmp_path):
    for quantization in NEED_IMPORTANCE:
        with pytest.raises(ExportError, match=f"{quantization} cannot be chosen well") as caught:
            quantise(whole, tmp_path / "x.gguf", quantization)
        assert "importance: false" in caught.value.hint
    for quantization in ("IQ3_S", "IQ4_XS", "Q2_K"):  # the finest of those that do without, and the coarsest
        quantise(whole, tmp_path / "without.gguf", quantization, threads=1)
    quantise(whole, tmp_path / "iq.gguf", "IQ3_XXS", importance=importance.means(), threads=1)
    engine = run_gguf(tmp_path / "iq.gguf")
    logits = engine.open().feed(cases[0][0], logits="all")
    assert np.isfinite(logits).all() and logits.std() > 0.1


def test_llama_cpp_names_the_tensor_whose_importance_is_missing(whole, importance, tmp_path):
    some = {name: values for name, values in importance.means().items() if "blk.1." not in name}
    with pytest.raises(ExportError, match=r"could not quantize to IQ2_XS.*blk\.1\."):
        quantise(whole, tmp_path / "iq.gguf", "IQ2_XS", importance=some, threads=1)
    assert not (tmp_path / "iq.gguf").exists()


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("blk.0.attn_q.weight", np.ones((1, 256), np.float32), r"holds no tensor 'blk\.0\.attn_q\.weight'"),
        ("blk.0.ffn_down.weight", np.ones((1, 256), np.float32), r"should be 1 x 512 values"),
        ("blk.0.ffn_down.weight", np.full((1, 512), np.nan, np.float32), "of 0 or more"),
        ("blk.0.ffn_down.weight", np.full((1, 512), -1.0, np.float32), "of 0 or more"),
    ],
)
def test_importance_of_another_model_is_refused(name, values, message, whole, tmp_path):
    with pytest.raises(ExportError, match=message):
        quantise(whole, tmp_path / "x.gguf", "Q4_K_M", importance={name: values})


def test_the_file_is_llama_cpps_own(importance, tmp_path):
    """Names and shapes as tools/imatrix/imatrix.cpp writes them; ne of in_sum2 is (width, matrices), of counts (1, matrices)."""
    from gguf import GGUFReader

    write_importance(tmp_path / "importance.gguf", importance, "drawn scenes")
    reader = GGUFReader(tmp_path / "importance.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "imatrix" and fields["imatrix.datasets"] == ["drawn scenes"]
    assert fields["imatrix.chunk_size"] == 1 and fields["imatrix.chunk_count"] > 200
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["blk.3.ffn_down.weight.in_sum2"].shape.tolist() == [512, 1]
    assert tensors["blk.3.ffn_down.weight.counts"].shape.tolist() == [1, 1]
    squares, counts = (tensors[f"blk.3.ffn_down.weight.{part}"].data for part in ("in_sum2", "counts"))
    np.testing.assert_allclose(squares / counts, importance.means()["blk.3.ffn_down.weight"], rtol=1e-6)
    assert len(tensors) == 2 * len(importance.squares)


def test_a_bundle_carries_what_it_was_quantized_by(tiny: ModelFolder, cases: list, tmp_path: Path) -> None:
    asked: list[int] = []

    def prompts() -> list:
        asked.append(1)
        return cases

    def made(name: str, quantization: str = "Q4_K_M", **settings: bool) -> Bundle:
        return export_bundle(tiny, profile(quantization, **settings), tmp_path / name, made_from={}, prompts=prompts)

    plain, weighed = made("plain", importance=False), made("weighed", importance=True)
    assert "importance" not in plain.files and weighed.file("importance").is_file() and asked == [1]
    assert plain.file("model").read_bytes() != weighed.file("model").read_bytes()
    with pytest.raises(ExportError, match="conversations with pictures"):
        export_bundle(tiny, profile("Q4_K_M", importance=True), tmp_path / "no", made_from={})
    with pytest.raises(ExportError, match="IQ2_XXS cannot be chosen well"):
        made("coarse", "IQ2_XXS", importance=False)
