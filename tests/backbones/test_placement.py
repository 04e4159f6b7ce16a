"""QLoRA on published layouts: what is 4-bit, where adapters sit, and the whole line from a published folder to its merge."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.errors import BackboneError
from edgereverie.recipe import Recipe, Train

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("bitsandbytes")
pytest.importorskip("peft")

NAMES = {"lm_head.": "language_model.lm_head.", "model.language_model.": "language_model.model.",
         "model.vision_tower.": "vision_tower.vision_model.",
         "model.multi_modal_projector.": "multi_modal_projector."}  # fmt: skip
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}
# linears of one layer: q, k, v, o, gate, up, down; or qkv, o, gate-up, down
LINEARS = {"llava15": 7, "xtuner": 7, "phi3": 4}


def wide(text: dict[str, Any]) -> dict[str, Any]:
    """64 channels, so that 4-bit blocks of 64 fill whole rows."""
    return text | {"hidden_size": 64, "intermediate_size": 128}


def write_original(tiny: ModuleType, parent: Path, text: dict[str, Any], model_type: str, image: int) -> Path:
    """LLaVA's own layout with a tower beside it: bin shards."""
    rest, tower = tiny.split_tower(tiny.original_names(tiny.make_llava(text, image)))
    folder = parent / "published"
    folder.mkdir(parents=True)
    tiny.write_json(folder / "config.json", tiny.llava_config(text, model_type, "openai/clip-tiny"))
    if model_type == "llava_phi":
        (folder / "tokenizer.json").write_text(tiny.tokenizer_json(tiny.PHI3_TOKENS), encoding="utf-8")
    else:
        (folder / "tokenizer.model").write_bytes(tiny.model_proto(tiny.pieces()))
    tiny.write_weights(folder, rest, "bin")
    tiny.write_tower(parent / "clip-tiny", tiny.TOWER, tower)
    return folder


@pytest.fixture(scope="module", params=list(LINEARS))
def published(
    request: pytest.FixtureRequest, tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    parent, kind = tmp_path_factory.mktemp(request.param), request.param
    if kind == "llava15":
        text = wide(tiny.LLAMA) | {"vocab_size": tiny.PIECES, "max_position_embeddings": 1024}
        return kind, write_original(tiny, parent, text, "llava_llama", 5)
    if kind == "phi3":
        long = {"max_position_embeddings": 1024, "original_max_position_embeddings": 1024, "sliding_window": None}
        return kind, write_original(tiny, parent, wide(tiny.PHI3) | long, "llava_phi", tiny.PIECES + 5)
    image = tiny.PIECES + 5
    tokenizer = tiny.tokenizer_json((*tiny.PHI3_TOKENS, "<image>"))
    tiny.write_huggingface(parent / "published", tiny.make_llava(wide(tiny.LLAMA), image), NAMES, tokenizer)
    return kind, parent / "published"


@pytest.fixture(scope="module")
def folder(published: tuple[str, Path]) -> ModelFolder:
    return open_folder(published[1])


def four_bit(model: Any) -> set[str]:
    return {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}


def linears(model: Any) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}


def test_four_bit_is_the_language_model_and_nothing_else(published: tuple[str, Path], folder: ModelFolder) -> None:
    model = folder.load("fp32", "nf4")
    inside = {f"model.language_model.{name}" for name in linears(model.model.language_model)}
    assert len(inside) == 2 * LINEARS[published[0]]
    assert four_bit(model) == inside
    assert {"lm_head", "model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"} <= linears(
        model
    ) - inside
    assert len(linears(model) - inside) == 3 * 6 + 2 + 1  # the tower's three layers of six


def test_wrong_placement_is_noticed(folder: ModelFolder) -> None:
    """One linear of the projector in 4 bit, and one of the language model that was left out: both are errors."""
    from bitsandbytes.nn import Linear4bit

    from edgereverie.backbones._loading import assert_nf4_placed

    model = folder.load("fp32", "nf4")
    model.model.multi_modal_projector.linear_2 = Linear4bit(64, 64)
    with pytest.raises(BackboneError, match=r"went wrong at model\.multi_modal_projector\.linear_2 \(Linear4bit\)"):
        assert_nf4_placed(model, folder)
    model = folder.load("fp32", "nf4")
    model.model.language_model.layers[1].self_attn.o_proj = torch.nn.Linear(64, 64)
    with pytest.raises(BackboneError, match=r"layers\.1\.self_attn\.o_proj \(Linear\)"):
        assert_nf4_placed(model, folder)


PARTS = [
    ({}, {"model.language_model"}),
    ({"projector": "lora"}, {"model.language_model", "model.multi_modal_projector"}),
    ({"vision_tower": "lora"}, {"model.language_model", "model.vision_tower"}),
    ({"vision_tower": "lora", "projector": "lora", "language_model": "frozen"},
     {"model.vision_tower", "model.multi_modal_projector"}),
    ({"vision_tower": "full", "projector": "full"},
     {"model.language_model", "model.vision_tower", "model.multi_modal_projector"}),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "reached"), PARTS)
def test_each_part_learns_as_the_recipe_says(folder: ModelFolder, parts: dict[str, str], reached: set[str]) -> None:
    from edgereverie.tuning import qlora

    model = qlora.place(folder.load("fp32", "nf4"), Train(lora=LORA, parts=parts), folder.backbone)
    names = [name.removeprefix("base_model.model.") for name, p in model.named_parameters() if p.requires_grad]
    assert {".".join(name.split(".")[:2]) for name in names} == reached
    adapted = {name.partition(".lora_")[0] for name in names if ".lora_" in name}
    per_part = {part: sum(name.startswith(part) for name in adapted) for part in reached}
    base = folder.load()
    wanted = {part: len([n for n in linears(base) if n.startswith(part + ".")]) for part in reached}
    whole = {"model.vision_tower": parts.get("vision_tower"), "model.multi_modal_projector": parts.get("projector")}
    assert per_part == {part: 0 if whole.get(part) == "full" else count for part, count in wanted.items()}


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_trained_projector_leaves_the_reference_alone(tiny: ModuleType, folder: ModelFolder, mode: str) -> None:
    """With the adapter switched off, a step on the projector has changed nothing; with it on, it has."""
    from edgereverie.tuning import qlora

    model = qlora.place(
        folder.load("fp32", "none"), Train(lora=LORA, parts={"projector": mode}), folder.backbone
    ).train()
    image = folder.config["image_token_index"]
    with model.disable_adapter():
        before = tiny.logits(model, image)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=5.0)
    ids = torch.tensor([[1, *[image] * 4, 10, 11, 12]])
    for _ in range(2):  # the first step moves B away from zero
        model(input_ids=ids, pixel_values=torch.ones(1, 3, 28, 28), labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with model.disable_adapter():
        assert torch.equal(tiny.logits(model, image), before)
    assert (tiny.logits(model, image) - before).abs().max() > 1e-3


def test_published_folder_is_tuned_and_merged(published: tuple[str, Path], folder: ModelFolder, tmp_path: Path) -> None:
    """stages.train in NF4 and stages.merge, straight from the published layout; the merge is a folder in transformers'."""
    from edgereverie import stages

    recipe = Recipe(
        name="tuned", backbone={"model": str(folder.path), "quantization": "nf4"},
        data={"scenes": {"count": 4, "diet": "reflective"}},
        train={"steps": 3, "batch_size": 1, "precision": "fp32", "learning_rate": 5e-3, "warmup": 0.0, "max_length": 1024,
               "parts": {"projector": "full"}, "lora": LORA},
    )  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in folder.path.iterdir()}
    merged = open_folder(stages.merge(stages.train(recipe, tmp_path / "run")))
    assert {path: path.stat().st_mtime_ns for path in folder.path.iterdir()} == before
    assert (merged.layout, merged.backbone, merged.chat) == ("huggingface", folder.backbone, folder.chat)
    assert (merged.image, merged.config["image_token_index"]) == (folder.image, folder.config["image_token_index"])
    assert merged.tokenizer().to_str() == folder.tokenizer().to_str()
