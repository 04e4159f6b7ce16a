"""ONNX decoders, one token at a time: the cache joined anew at each step against one shared buffer, one row against two.

    python benchmarks/onnx_decode.py --out runs/onnx

Two models: the starter, and a random one of half a billion parameters in Phi-3's form. Each is exported in a process of its
own, whose seconds and peak (VmHWM) are noted. The peak is all of it: interpreter, libraries, and the model's own files,
1,100 MB of the larger one, which are mapped and which the system takes back when it needs the room.

Then every decoder takes steps behind a prompt of 620 tokens, whose keys and values are random numbers, for they cost the
same. The forms take turns, so that whatever else the machine does falls on all of them; the median and the quickest step
are told. Two rows are what contrastive decoding needs. Result: benchmarks/results/onnx_decode.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgereverie.bundle import write_text

RESULTS = Path(__file__).parent / "results"
PROMPT, ROOM, ROUNDS, STEPS = 620, 1024, 8, 4
FORMS: dict[str, tuple[str, dict[str, str]]] = {  # by name: quantization and settings
    "int4 rtn, concat": ("int4", {"algorithm": "rtn"}),
    "int4 rtn, shared": ("int4", {"cache": "shared", "algorithm": "rtn"}),
    "int4 hqq, shared": ("int4", {"cache": "shared", "algorithm": "hqq"}),
    "int4 k_quant, shared": ("int4", {"cache": "shared", "algorithm": "k_quant"}),
    "int8, shared": ("int8", {"cache": "shared"}),
    "fp32, concat": ("fp32", {}),
    "fp32, shared": ("fp32", {"cache": "shared"}),
}


def half_billion(folder: Path) -> None:
    """A LLaVA-Phi-3 of 0.55 billion random parameters in 16 bit, with the starter's words and a small tower."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Phi3Config

    from edgereverie.backbones import starter
    from edgereverie.backbones.base import write_companions

    shipped = starter.shipped()
    words = {key: shipped.config["text_config"][key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = Phi3Config(
        vocab_size=32064, hidden_size=1536, intermediate_size=4096, num_hidden_layers=16, num_attention_heads=16,
        num_key_value_heads=16, max_position_embeddings=2048, original_max_position_embeddings=2048, **words,
    )  # fmt: skip
    vision = CLIPVisionConfig(**{
        key: shipped.config["vision_config"][key]
        for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size",
                    "patch_size", "projection_dim", "hidden_act")
    })  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=shipped.config["image_token_index"],
                         image_seq_length=shipped.image.tokens)  # fmt: skip
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    torch.manual_seed(0)
    weights = {
        name: torch.empty(value.shape, dtype=torch.bfloat16).uniform_(-0.03, 0.03)
        + float("norm" in name and value.ndim == 1)
        for name, value in model.state_dict().items()
    }
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    write_companions(shipped, folder)


def export_here(model: str, form: str, out: Path) -> dict[str, float]:
    """One export in this process."""
    from edgereverie.backbones import starter
    from edgereverie.backbones.base import open_folder
    from edgereverie.export.base import ParityBound, Profile
    from edgereverie.export.write import export_bundle

    quantization, settings = FORMS[form]
    profile = Profile(name="form", target="onnx", quantization=quantization, description="", settings=settings,
                      parity=ParityBound())  # fmt: skip
    folder = starter.shipped() if model == "starter" else open_folder(Path(model))
    before = time.perf_counter(), time.process_time()
    bundle = export_bundle(folder, profile, out, made_from={})
    return {
        "seconds": round(time.perf_counter() - before[0], 1),
        "processor_seconds": round(time.process_time() - before[1], 1),
        "peak_mb": round(peak() / 1e6),
        "decoder_mb": round(sum(f.bytes for role, f in bundle.files.items() if role.startswith("decoder")) / 1e6, 1),
    }


def peak() -> int:
    """VmHWM in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


class Steps:
    """A decoder that takes one step after the other, ``rows`` at once, all behind the same prompt."""

    def __init__(self, path: Path, rows: int, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.rows, self.shared = rows, "position_ids" not in self.inputs
        rng = np.random.default_rng(0)
        self.embeds = rng.standard_normal((rows, 1, self.inputs["inputs_embeds"].shape[2]), np.float32)
        length = ROOM if self.shared else PROMPT
        self.values = {
            name: ort.OrtValue.ortvalue_from_numpy(
                0.1 * rng.standard_normal((rows, one.shape[1], length, one.shape[3]), np.float32)
            )
            for name, one in self.inputs.items()
            if name.startswith("past")
        }
        self.length, self.milliseconds = PROMPT, []

    def step(self) -> None:
        begun = time.perf_counter()
        binding = self.session.io_binding()
        binding.bind_cpu_input("inputs_embeds", self.embeds)
        binding.bind_cpu_input("attention_mask", np.ones((self.rows, self.length + 1), np.int64))
        binding.bind_output("logits", "cpu")
        if not self.shared:
            binding.bind_cpu_input("position_ids", np.full((self.rows, 1), self.length, np.int64))
        for name, value in self.values.items():
            binding.bind_ortvalue_input(name, value)
            present = name.replace("past_key_values", "present")
            if self.shared:
                binding.bind_ortvalue_output(present, value)
            else:
                binding.bind_output(present, "cpu")
        self.session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        outputs[0].numpy()
        if not self.shared:
            self.values = dict(zip(self.values, outputs[1:], strict=True))
        self.length += 1
        self.milliseconds.append(1000 * (time.perf_counter() - begun))


def measure(decoders: dict[str, Path], threads: int) -> dict[str, dict[str, Any]]:
    """Steps of all decoders in turns; the first round warms up."""
    found: dict[str, dict[str, Any]] = {}
    running = {(form, rows): Steps(path, rows, threads) for form, path in decoders.items() for rows in (1, 2)}
    for number in range(ROUNDS + 1):
        for steps in running.values():
            for _ in range(STEPS):
                steps.step()
            if number == 0:
                steps.milliseconds.clear()
    for (form, rows), steps in running.items():
        times = steps.milliseconds
        found.setdefault(form, {})["one row" if rows == 1 else "two rows"] = {
            "median_ms": round(median(times), 3), "quickest_ms": round(min(times), 3)}  # fmt: skip
    for rows in found.values():
        rows["two_over_one"] = round(rows["two rows"]["quickest_ms"] / rows["one row"]["quickest_ms"], 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/onnx"))
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count())
    parser.add_argument("--child", nargs=3, metavar=("MODEL", "FORM", "OUT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        model, form, out = chosen.child
        print(json.dumps(export_here(model, form, Path(out))))
        return
    large = chosen.out / "half-billion"
    if not (large / "config.json").is_file():
        half_billion(large)
    versions = {package: version(package) for package in ("edgereverie", "onnxruntime", "torch", "transformers")}
    report: dict[str, Any] = {"threads": chosen.threads, "prompt": PROMPT, "versions": versions, "models": {}}
    for name, model in (("starter", "starter"), ("0.55 B, random", str(large))):
        exports, decoders = {}, {}
        for form in FORMS:
            out = chosen.out / f"{name.split()[0]}-{form.replace(', ', '-').replace(' ', '-')}"
            if not out.exists():
                child = [sys.executable, __file__, "--child", model, form, str(out)]
                exports[form] = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
                write_text(chosen.out / f"{out.name}.json", json.dumps(exports[form]))
            exports[form] = json.loads((chosen.out / f"{out.name}.json").read_text(encoding="utf-8"))
            print(name, form, exports[form], flush=True)
            decoders[form] = next((out / "onnx").glob("decoder_model_merged*.onnx"))
        report["models"][name] = {"exports": exports, "steps": measure(decoders, chosen.threads)}
        print(json.dumps(report["models"][name]["steps"], indent=2), flush=True)
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / "onnx_decode.json", json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
