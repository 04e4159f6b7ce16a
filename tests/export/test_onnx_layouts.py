"""Every backbone and layout as ONNX, against torch on a hundred prompts with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgereverie.backbones import starter
from edgereverie.backbones.base import ModelFolder
from edgereverie.export.base import Job, ParityBound, Profile
from edgereverie.export.targets.onnx import TARGET
from edgereverie.export.weights import Weights

from ._folders import PUBLISHED, SIZED, published, sized

torch = pytest.importorskip("torch")

PROMPTS, WORDS = 100, 12
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Model:
    """A folder, torch's logits for its prompts, and its graphs under onnxruntime; nothing of edgereverie's runtime."""

    def __init__(self, folder: ModelFolder, out: Path) -> None:
        self.folder, self.out, self.made = folder, out, {}
        rng, image = np.random.default_rng(1), folder.config["image_token_index"]
        ids = rng.integers(3, 250, (PROMPTS, WORDS + folder.image.tokens))
        ids[:, 2 : 2 + folder.image.tokens] = image
        self.ids, self.image = ids, image
        self.pixels = rng.standard_normal((PROMPTS, 3, folder.image.size, folder.image.size), np.float32)
        self.torch = folder.load()
        self.expected = self.forward(ids, np.ones_like(ids))

    def forward(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        with torch.no_grad():
            return self.torch(
                input_ids=torch.from_numpy(ids), pixel_values=torch.from_numpy(self.pixels[: len(ids)]),
                attention_mask=torch.from_numpy(mask), position_ids=torch.from_numpy(positions),
            ).logits.numpy()  # fmt: skip

    def write(self, quantization: str, **settings: Any) -> dict[str, Path]:
        key = (quantization, *sorted(settings.items()))
        if key not in self.made:
            profile = Profile(name="x", target="onnx", quantization=quantization, description="", settings=settings,
                              parity=ParityBound())  # fmt: skip
            TARGET.check(self.folder, profile)
            out = self.out / "-".join(map(str, (quantization, *settings.values())))
            out.mkdir()
            files = TARGET.write(Job(self.folder, Weights(self.folder), profile, out, list))
            self.made[key] = {role: out / name for role, name in files.items()}
        return self.made[key]


class Graphs:
    def __init__(self, files: dict[str, Path]) -> None:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.vision, self.embed, self.decoder = (
            ort.InferenceSession(files[role], options, providers=["CPUExecutionProvider"])
            for role in ("vision", "embed", "decoder")
        )
        self.inputs = {one.name: one for one in self.decoder.get_inputs()}
        self.dtype = FLOATS[self.inputs["inputs_embeds"].type]

    def embeds(self, model: Model, count: int) -> np.ndarray:
        ids = model.ids[:count]
        rows = self.embed.run(None, {"input_ids": ids})[0]
        pixels = model.pixels[:count].astype(FLOATS[self.vision.get_inputs()[0].type])
        rows[ids == model.image] = self.vision.run(None, {"pixel_values": pixels})[0].reshape(-1, rows.shape[-1])
        return rows

    def run(self, embeds: np.ndarray, mask: np.ndarray | None = None, steps: tuple[int, ...] = ()) -> np.ndarray:
        """Logits at all positions. steps: where the sequence is cut; nowhere by default."""
        batch, length = embeds.shape[:2]
        mask = np.ones((batch, length), np.int64) if mask is None else mask
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        past = {name: np.zeros((batch, one.shape[1], 0, one.shape[3]), self.dtype)
                for name, one in self.inputs.items() if name.startswith("past")}  # fmt: skip
        found = []
        for begin, end in zip((0, *steps), (*steps, length), strict=True):
            feeds = {"inputs_embeds": embeds[:, begin:end], "attention_mask": mask[:, :end],
                     "position_ids": positions[:, begin:end]}  # fmt: skip
            feeds = {name: value for name, value in feeds.items() if name in self.inputs}
            logits, *present = self.decoder.run(None, feeds | past)
            past = dict(zip(past, present, strict=True))
            found.append(logits.astype(np.float32))
        return np.concatenate(found, 1)


@pytest.fixture(scope="module", params=SIZED)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    root = tmp_path_factory.mktemp("sized")
    return Model(sized(request.param, root / "model"), root)


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    assert expected.std() > 0.3, "there is something to compare"
    assert np.abs(found - expected).max() < 2e-4
    assert (found.argmax(-1) == expected.argmax(-1)).all()


@pytest.mark.parametrize("name", [*PUBLISHED, "starter"])
def test_each_published_layout_equals_torch(name: str, tmp_path: Path) -> None:
    folder = starter.shipped() if name == "starter" else published(name, tmp_path / "model")
    model = Model(folder, tmp_path)
    graphs = Graphs(model.write("fp32"))
    agree(graphs.run(graphs.embeds(model, PROMPTS)), model.expected)


@pytest.mark.parametrize("cache", ["concat", "shared"])
def test_fp32_equals_torch_at_once_in_portions_and_step_by_step(cache: str, model: Model) -> None:
    graphs = Graphs(model.write("fp32", cache=cache))
    embeds = graphs.embeds(model, PROMPTS)
    agree(graphs.run(embeds), model.expected)
    agree(graphs.run(embeds[:1], steps=(3, 5, 6, 7, 13)), model.expected[:1])
    length = embeds.shape[1]
    agree(graphs.run(embeds[:2], steps=tuple(range(length - 4, length))), model.expected[:2])


def test_two_rows_padded_at_the_left_equal_torch(model: Model) -> None:
    graphs = Graphs(model.write("fp32", cache="concat"))
    rows, pad = graphs.embeds(model, 1), 3
    length = rows.shape[1]
    embeds = np.concatenate([np.zeros_like(rows[:, :pad]), rows], 1).repeat(2, 0)
    embeds[1] = np.concatenate([rows[0], rows[0, -pad:]])
    mask = np.ones((2, pad + length), np.int64)
    mask[0, :pad] = 0
    found = graphs.run(embeds, mask, steps=(length, length + 1))
    agree(found[:1, pad:], model.expected[:1])
    agree(found[1:, :length], model.expected[:1])


def test_two_rows_padded_at_the_right_go_on_in_one_buffer(model: Model) -> None:
    """The shared form's batch: rows prefilled apart, their buffers laid one over the other, and lengths by the mask."""
    graphs = Graphs(model.write("fp32", cache="shared"))
    embeds, room, cut = graphs.embeds(model, 2), 32, 5
    length = embeds.shape[1]
    caches = {name: np.zeros((2, one.shape[1], room, one.shape[3]), np.float32)
              for name, one in graphs.inputs.items() if name.startswith("past")}  # fmt: skip
    fed = (length - 1, length - 1 - cut)
    for row, count in enumerate(fed):
        empty = {name: value[:1, :, :0] for name, value in caches.items()}
        feeds = {"inputs_embeds": embeds[row : row + 1, :count], "attention_mask": np.ones((1, count), np.int64)}
        _, *present = graphs.decoder.run(None, feeds | empty)
        for value, new in zip(caches.values(), present, strict=True):
            value[row, :, :count] = new[0]
    mask = (np.arange(length) <= np.array(fed)[:, None]).astype(np.int64)
    binding = graphs.decoder.io_binding()
    binding.bind_cpu_input("inputs_embeds", np.stack([embeds[row, count : count + 1] for row, count in enumerate(fed)]))
    binding.bind_cpu_input("attention_mask", mask)
    binding.bind_output("logits", "cpu")
    for name, value in caches.items():
        both = ort.OrtValue.ortvalue_from_numpy(value)
        binding.bind_ortvalue_input(name, both)
        binding.bind_ortvalue_output(name.replace("past_key_values", "present"), both)
    graphs.decoder.run_with_iobinding(binding)
    logits = binding.get_outputs()[0].numpy()[:, 0]
    agree(logits, np.stack([model.expected[row, count] for row, count in enumerate(fed)]))


@pytest.mark.parametrize(
    ("quantization", "settings", "share"),
    [
        ("fp16", {}, 0.005),
        ("fp16", {"cache": "shared", "device": "cuda"}, 0.01),
        ("int8", {}, 0.04),
        ("int4", {}, 0.33),
        ("int4", {"cache": "shared"}, 0.33),
        ("int4", {"cache": "shared", "device": "cuda"}, 0.33),
        ("int4", {"algorithm": "rtn"}, 0.33),
        ("int4", {"algorithm": "hqq"}, 0.33),
    ],
)
def test_smaller_ones_stay_close(quantization: str, settings: dict[str, Any], share: float, model: Model) -> None:
    """share: mean difference over the logits' own spread. Random weights are the worst that a quantization meets."""
    files = model.write(quantization, **settings)
    for role in ("vision", "embed", "decoder"):
        onnx.checker.check_model(files[role])
    graphs = Graphs(files)
    found = graphs.run(graphs.embeds(model, 8))
    expected = model.expected[:8]
    assert np.isfinite(found).all()
    assert np.abs(found - expected).mean() / expected.std() < share
    whole = sum(path.stat().st_size for path in model.write("fp32").values())
    assert sum(path.stat().st_size for path in files.values()) < whole


def test_routers_are_whole_and_every_other_matrix_of_the_decoder_is_packed(model: Model) -> None:
    graph = onnx.load(model.write("int4")["decoder"]).graph
    kept = {tensor.name for tensor in graph.initializer}
    routers = {f"model.language_model.layers.{index}.mlp.wg.weight"
               for index in (model.folder.config.get("moe") or {}).get("moe_layers_idx", [])}  # fmt: skip
    matrices = {tensor.name: tensor.data_type for tensor in graph.initializer
                if len(tensor.dims) == 2 and tensor.name.endswith("weight")}  # fmt: skip
    assert matrices == dict.fromkeys(routers, onnx.TensorProto.FLOAT)
    packed = [node for node in graph.node if node.op_type == "MatMulNBits"]
    experts = sum((model.folder.config.get("moe") or {}).get("num_experts", []))
    layers = model.folder.config["text_config"]["num_hidden_layers"]
    dense = layers - len(routers)
    assert len(packed) == 2 * layers + 2 * (dense + experts) + 1
    assert all({node.input[1], node.input[2]} <= kept for node in packed)
