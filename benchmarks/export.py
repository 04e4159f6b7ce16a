"""Exports at full size: memory and time, on random weights that are made on the spot.

    python benchmarks/export.py --out runs/export                               # 15 GB of disk for the dense model
    python benchmarks/export.py --out runs/export --moe                         # and 35 GB for MoE-LLaVA on Phi-3
    python benchmarks/export.py --out runs/export --llama-cpp LLAMA_CPP_SOURCE  # beside llama.cpp's own converter

LLaVA-Phi-3 has 4.1 billion parameters, in 16-bit safetensors shards; MoE-LLaVA on Phi-3 with four experts in every other
layer is upcycled from it.
Each case runs in a process of its own. ``processor`` are the seconds that it computed, on all cores together, which other
work beside it does not change much. ``anonymous`` is the most memory that it held itself, looked at ten times a second;
``resident`` counts mapped files too, which the system takes back when it needs room. llama.cpp's converter reads the same
shards, and its quantizer what the converter wrote. Result: benchmarks/results/export.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

from edgereverie.bundle import write_text

RESULTS = Path(__file__).parent / "results"
SHARD = 1 << 30
CASES = {"GGUF Q4_K_M and mmproj": "gguf-q4-k-m", "GGUF Q8_0 and mmproj": "gguf-q8-0", "ONNX int4": "onnx-int4"}
MOE_CASES = {"MoE: GGUF Q4_K_M and mmproj": "gguf-q4-k-m"}


def llava_phi3(folder: Path, seed: int = 0) -> Path:
    """LLaVA-Phi-3-mini as its config says, with random float16 weights; whole or not there."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from edgereverie.backbones import starter
    from edgereverie.backbones._catalogue import catalogue
    from edgereverie.backbones._writing import write_companions
    from edgereverie.bundle import new_folder
    from edgereverie.records import ImageSpec

    published = next(model for model in catalogue() if model.id == "MBZUAI/LLaVA-Phi-3-mini-4k-instruct")
    shipped = starter.shipped()
    tokens = {key: shipped.config["text_config"][key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = dict(published.config["text_config"]) | tokens | {"original_max_position_embeddings": 4096}
    image_token = shipped.config["image_token_index"]
    config = LlavaConfig(
        vision_config=dict(published.config["vision_config"]), text_config=text, image_token_index=image_token
    )
    with torch.device("meta"):
        shapes = {
            name: tuple(value.shape) for name, value in LlavaForConditionalGeneration(config).state_dict().items()
        }
    generator = torch.Generator().manual_seed(seed)
    if folder.is_dir():
        return folder
    with new_folder(folder) as beside:
        placed: dict[str, str] = {}
        held: dict[str, Any] = {}

        def flush() -> None:
            file = f"model-{len(set(placed.values())) + 1:05d}.safetensors"
            save_file(held, beside / file, metadata={"format": "pt"})
            placed.update(dict.fromkeys(held, file))
            held.clear()

        for name, shape in shapes.items():
            values = torch.empty(shape).normal_(0, 0.02, generator=generator)
            held[name] = (values + 1 if "norm" in name and name.endswith("weight") else values).half()
            if sum(value.nbytes for value in held.values()) > SHARD:
                flush()
        flush()
        index = {"metadata": {}, "weight_map": placed}
        (beside / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        told = config.to_dict() | {"architectures": ["LlavaForConditionalGeneration"]}
        (beside / "config.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        image = ImageSpec(size=336, patch=14, mean=shipped.image.mean, std=shipped.image.std)
        write_companions(beside, shipped.tokenizer(), image, shipped.chat.name)
    return folder


def measured(arguments: list[str]) -> dict[str, float]:
    """Run ``python`` with these arguments. Seconds, and the peaks of anonymous and of resident memory in bytes."""
    peaks = {"RssAnon": 0, "VmHWM": 0}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)

    def look() -> None:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
            except OSError:
                return
            for line in status.splitlines():
                key, _, value = line.partition(":")
                if key in peaks:
                    peaks[key] = max(peaks[key], int(value.split()[0]) * 1024)
            time.sleep(0.1)

    watcher = Thread(target=look)
    watcher.start()
    status = process.wait()
    watcher.join()
    if status:
        raise SystemExit(f"{arguments}: exit status {status}")
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"seconds": seconds, "processor": processor, "anonymous": peaks["RssAnon"], "resident": peaks["VmHWM"]}


def one(model: Path, profile: str, out: Path) -> None:
    """Export in this process, without the comparison that loads the whole model in PyTorch."""
    from edgereverie.backbones.base import open_folder
    from edgereverie.export.base import load_profile
    from edgereverie.export.write import export_bundle

    export_bundle(open_folder(model), load_profile(profile), out, made_from={"model": model.name}, force=True)


def upcycle(dense: Path, out: Path) -> Path:
    """MoE-LLaVA on Phi-3, not compared with the dense model, which would take both in memory."""
    from edgereverie.backbones._upcycle import upcycled
    from edgereverie.backbones.base import open_folder, write_folder
    from edgereverie.bundle import new_folder

    if not out.is_dir():
        with new_folder(out) as beside:
            write_folder(upcycled(open_folder(dense)), beside)
    return out


def theirs(model: Path, source: Path, out: Path) -> dict[str, dict[str, float]]:
    """llama.cpp's converter to F16, then its quantizer to Q4_K_M; the language model alone, for it converts no CLIP."""
    whole, small = out / "theirs-f16.gguf", out / "theirs-q4-k-m.gguf"
    converter = [str(source / "convert_hf_to_gguf.py"), str(model), "--outtype", "f16", "--outfile", str(whole)]
    quantizer = "import sys; from pathlib import Path; from edgereverie.export.quantise import quantise; " \
                "quantise(Path(sys.argv[1]), Path(sys.argv[2]), 'Q4_K_M')"  # fmt: skip
    found = {
        "llama.cpp's converter, F16, no mmproj": measured(converter),
        "llama.cpp's quantizer, Q4_K_M": measured(["-c", quantizer, str(whole), str(small)]),
    }
    whole.unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/export"))
    parser.add_argument("--only", nargs="+", help="Titles of the cases to run. Default: all.")
    parser.add_argument("--moe", action="store_true", help="Also MoE-LLaVA on Phi-3, 7.4 billion parameters.")
    parser.add_argument("--llama-cpp", type=Path, help="Source folder of llama.cpp, for its own converter.")
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "PROFILE", "OUT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(Path(chosen.one[0]), chosen.one[1], Path(chosen.one[2]))
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    dense = llava_phi3(chosen.out / "llava-phi3")
    cases = [(title, profile, dense) for title, profile in CASES.items()]
    if chosen.moe:
        moe = upcycle(dense, chosen.out / "moe-llava-phi3")
        cases += [(title, profile, moe) for title, profile in MOE_CASES.items()]
    RESULTS.mkdir(exist_ok=True)
    result = RESULTS / "export.json"
    found = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else {}
    for title, profile, model in cases:
        if not chosen.only or title in chosen.only:
            made = chosen.out / "bundle"
            found[title] = measured([__file__, "--one", str(model), profile, str(made)])
            found[title] |= {"bytes": sum(file.stat().st_size for file in made.rglob("*") if file.is_file())}
            _tell(title, found[title])
            write_text(result, json.dumps(found, indent=1) + "\n")
    if chosen.llama_cpp:
        for title, figures in theirs(dense, chosen.llama_cpp, chosen.out).items():
            found[title] = figures
            _tell(title, figures)
    write_text(result, json.dumps(found, indent=1) + "\n")


def _tell(title: str, figures: dict[str, float]) -> None:
    held, mapped = figures["anonymous"] / 1e9, figures["resident"] / 1e9
    print(f"{title}: {figures['seconds']:.0f} s ({figures['processor']:.0f} computed), "
          f"{held:.2f} GB held, {mapped:.2f} GB with mapped files", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
