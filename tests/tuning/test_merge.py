"""An adapter in its 16-bit base: the arithmetic, the same bytes twice, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgereverie import stages
from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.bundle import sha256_of
from edgereverie.errors import BundleError, ExportError
from edgereverie.recipe import Train
from edgereverie.tuning import qlora
from edgereverie.tuning.merge import base_of_adapter, stored_dtype

WEIGHTS = "adapter_model.safetensors"

KILLER = """
import os, signal, sys
from pathlib import Path
from edgereverie import stages
from edgereverie.tuning import merge
def die(model, source, out):
    (out / "model.safetensors").write_bytes(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
merge.save_folder = die
stages.merge(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def merged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stages.merge(trained, tmp_path_factory.mktemp("merge") / "merged")


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the adapter to spoil."""
    return shutil.copytree(trained / "adapter", tmp_path / "adapter")


def test_merged_weights_are_base_plus_scaled_product(merged: Path, trained: Path, folder: ModelFolder) -> None:
    """W + alpha / rank * B A = W + 2 B A, in 32 bit and then rounded to the stored 16; all other tensors as they were."""
    base, adapter = load_file(folder.path / "model.safetensors"), load_file(trained / "adapter" / WEIGHTS)
    found = load_file(merged / "model.safetensors")
    assert found.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        module = name.removesuffix(".weight").removeprefix("language_model.")
        ends = (f"{module}.lora_A.weight", f"{module}.lora_B.weight")
        pair = [value for key, value in sorted(adapter.items()) if key.endswith(ends)]
        wanted = weight + 2 * pair[1] @ pair[0] if pair else weight
        assert found[name].dtype == torch.float16
        if pair:
            changed += 1
            assert not torch.equal(found[name], weight.half())
            torch.testing.assert_close(found[name].float(), wanted, atol=1e-4, rtol=2**-10)
        else:
            assert torch.equal(found[name], weight.half()), name
    assert changed == 16


def test_merging_leaves_the_card_alone(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32-bit weights of a model that is tuned in 4 bit do not fit its card; here there is none, and asking for it fails."""
    monkeypatch.setattr("edgereverie.backbones.base.device", lambda: "cuda")
    out = stages.merge(copied, tmp_path / "merged")
    assert (out / "merge.json").is_file()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's, in transformers 5.23
def test_the_merged_model_says_what_the_adapter_says(merged: Path, trained: Path, folder: ModelFolder) -> None:
    from peft import PeftModel

    ids = torch.tensor([[1, *range(300, 340)]])
    with torch.no_grad():
        base = folder.load()
        before = base(input_ids=ids).logits
        on = PeftModel.from_pretrained(base, trained / "adapter")(input_ids=ids).logits
        now = open_folder(merged).load()(input_ids=ids).logits
    effect = float((on - before).abs().max())
    assert effect > 0.005, "the adapter does something to compare"
    assert float((now - on).abs().max()) < 0.02 * effect + 2e-3
    told = json.loads((merged / "merge.json").read_text(encoding="utf-8"))
    assert told["adapter"] == sha256_of(trained / "adapter" / WEIGHTS)
    assert told["merge"]["max_logit_diff"] < 0.1 * told["merge"]["adapter_effect"] and told["merge"]["positions"] > 200


def test_merging_again_gives_equal_bytes_and_leaves_the_base(
    merged: Path, trained: Path, folder: ModelFolder, tmp_path: Path
) -> None:
    def hashes(path: Path) -> dict[str, str]:
        return {file.name: sha256_of(file) for file in path.iterdir()}

    before = hashes(folder.path)
    assert hashes(stages.merge(trained / "adapter", tmp_path / "again")) == hashes(merged)
    assert hashes(folder.path) == before
    with pytest.raises(BundleError, match="exists already"):
        stages.merge(trained, tmp_path / "again")
    assert open_folder(merged).config["vision_config"]["image_size"] == 96
    assert {"tokenizer.json", "preprocessor_config.json"} <= hashes(merged).keys()


def test_an_adapter_that_does_nothing_is_refused(folder: ModelFolder, tmp_path: Path) -> None:
    fresh = qlora.place(folder.load(), Train(lora={"rank": 4, "alpha": 8, "dropout": 0.0}), folder.backbone)
    fresh.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ExportError, match="changes nothing") as caught:
        stages.merge(tmp_path / "adapter", tmp_path / "merged", base=str(folder.path))
    assert "trained" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def shrink(path: Path, factor: float) -> None:
    """An adapter that was trained less."""
    weights = load_file(path / WEIGHTS)
    save_file(
        {name: weight * factor if "lora_B" in name else weight for name, weight in weights.items()}, path / WEIGHTS
    )


def test_what_rounding_takes_of_a_small_adapter_is_told_and_bounded(copied: Path, merged: Path, tmp_path: Path) -> None:
    """Rounding is the base's business: an adapter of a hundredth leaves as much rounded away, a hundred times the share.

    That the adapter arrived is asked of the sum in 32 bit, where its size does not matter.
    """
    told = json.loads((merged / "merge.json").read_text(encoding="utf-8"))["merge"]
    share = told["max_logit_diff"] / told["adapter_effect"]
    shrink(copied, 2 * share)  # so that about a half is lost: more than the tenth that a wrong merge would show
    shrink(copied, 2)
    small = json.loads((stages.merge(copied, tmp_path / "small") / "merge.json").read_text(encoding="utf-8"))["merge"]
    assert 0.1 < small["max_logit_diff"] / small["adapter_effect"] < 0.5
    shrink(copied, 0.1)
    with pytest.raises(ExportError, match="is rounded away") as caught:
        stages.merge(copied, tmp_path / "tiny")
    assert "learning_rate" in caught.value.hint and not (tmp_path / "tiny").exists()


def resize(path: Path) -> None:
    """An adapter of a model with wider layers."""
    save_file({k: torch.zeros(v.shape[0], 2 * v.shape[1]) if "lora_A" in k else v for k, v in load_file(path / WEIGHTS).items()},
              path / WEIGHTS)  # fmt: skip


def cut(path: Path) -> None:
    data = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(data[: len(data) // 2])


def retarget(path: Path) -> None:
    """An adapter for LLaMA's linears, which this model has not."""
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    (path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["gate_proj"]}), encoding="utf-8")


@pytest.mark.parametrize(("spoil", "message"), [
    (resize, "does not fit"), (cut, "does not fit"), (retarget, "does not fit"),
    (lambda path: (path / WEIGHTS).unlink(), "does not fit|no adapter_model"),
])  # fmt: skip
def test_an_adapter_that_does_not_fit_is_refused(copied: Path, tmp_path: Path, spoil, message: str) -> None:
    spoil(copied)
    with pytest.raises(ExportError, match=message) as caught:
        stages.merge(copied, tmp_path / "merged")
    assert str(copied) in str(caught.value) and caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no adapter_config\.json"):
        base_of_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 8', encoding="utf-8")
    with pytest.raises(ExportError, match="cannot be read"):
        base_of_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
    with pytest.raises(ExportError, match="does not say which base") as caught:
        base_of_adapter(tmp_path)
    assert "--base" in caught.value.hint


def test_a_full_disk_leaves_nothing(trained: Path, tmp_path: Path, file_size_limit) -> None:
    with file_size_limit(1_000_000), pytest.raises(ExportError, match="cannot be written") as caught:
        stages.merge(trained, tmp_path / "merged")
    assert "disk" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="kills by POSIX signals")
def test_a_killed_merge_leaves_no_merged_folder(trained: Path, merged: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLER, str(trained), str(tmp_path / "merged")], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, timeout=200)  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "merged").exists()
    stages.merge(trained, tmp_path / "merged")
    assert os.listdir(tmp_path) == ["merged"], "what the kill left is cleared away"
    assert sha256_of(tmp_path / "merged" / "model.safetensors") == sha256_of(merged / "model.safetensors")


def test_stored_precision(folder: ModelFolder, merged: Path, tmp_path: Path) -> None:
    """32-bit bases merge to float16; 16-bit ones keep their own type."""
    assert stored_dtype(folder) == stored_dtype(open_folder(merged)) == torch.float16
    shutil.copytree(merged, tmp_path / "bf16")
    weights = {name: value.bfloat16() for name, value in load_file(merged / "model.safetensors").items()}
    save_file(weights, tmp_path / "bf16" / "model.safetensors", {"format": "pt"})
    assert stored_dtype(open_folder(tmp_path / "bf16")) == torch.bfloat16
