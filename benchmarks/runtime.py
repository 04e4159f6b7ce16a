"""What an answer costs: against the runtimes' own loops, with guards, and with one look for many questions.

    python benchmarks/runtime.py --out runs/runtime                    # 0.55 B random parameters, 576 image tokens; 3 GB
    python benchmarks/runtime.py --out runs/runtime --model starter --tokens 20 --rounds 1 --questions 60    # a smoke run
    python benchmarks/runtime.py --out runs/runtime --only agree       # greedy answers of the starter's exports

``loops``: seconds a token behind a prompt of the picture's length, each loop in turns with the others: ours; llama.cpp's own,
as ``Llama.generate`` and as ``create_completion`` of llama-cpp-python; onnxruntime-genai on the same weights, which is given
our embedding and decoder as one graph; and a bare loop around onnxruntime that binds, runs and takes the largest.
``guards``: a 60-token description with five objects, which the model is made to say (see replay.py), plain and with each
guard; and six questions about one picture with one look against six. ``memory``: what the process grows by while the starter
answers questions. ``agree``: the starter's exports against PyTorch, on held-out drawn scenes.
All ratios are medians over rounds in which everything takes its turn. Result: benchmarks/results/runtime.json.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from half_billion import PROFILES, bundle, half_billion
from PIL import Image
from replay import replaying

from edgereverie import stages
from edgereverie.bundle import Bundle, write_text
from edgereverie.records import Options, Turn
from edgereverie.registry import GUARDS
from edgereverie.runtime.generation import Plain, generate
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Request
from edgereverie.stages.running import DESCRIBE, interleaved, ratio, running
from edgereverie.text.claims import claims

RESULTS = Path(__file__).parent / "results"
MEASURED = ("flag", "verify", "contrast")  # any other guard can be named
PARTS = ("loops", "guards", "memory", "agree")
ASK = (Turn("user", DESCRIBE),)
TEXT = "The image shows a ring. It also shows a star. There is a moon too. One can see a heart as well. And there is a cross."
FILLER = " That is all there is."
Loop = Callable[[], float]


def picture(side: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8))


def description(model: Model, tokens: int) -> str:
    """Five objects, and words without any until there are that many tokens."""
    text = TEXT
    while len(model.tokenizer.encode(text, add_special_tokens=False).ids) < tokens:
        text += FILLER
    return text


# Loops: each takes ``tokens`` steps behind a prompt that is prefilled already, and returns seconds a token


def ours(model: Model, image: Image.Image, tokens: int) -> float:
    """The answer as people get it: text piece by piece, with a record of its tokens."""
    steps = Plain(model, *model.begin(image, ASK))
    started, made = time.perf_counter(), generate(Request(model, image, ASK, Options(max_tokens=tokens)), steps)
    while True:
        try:
            next(made)
        except StopIteration as finished:
            return (time.perf_counter() - started) / finished.value.tokens


def timed_steps(step: Callable[[], Any], tokens: int) -> float:
    started = time.perf_counter()
    for _ in range(tokens):
        step()
    return (time.perf_counter() - started) / tokens


def prompt_of(model: Model, image: Image.Image) -> list[int]:
    """As many tokens as ours; loops that know no pictures read a word in each image token's place."""
    ids, _ = model.prompt(image, ASK)
    return [ids[0] if token == model.engine.image_token else token for token in ids]


@contextmanager
def llama_loops(model: Model, ids: list[int], tokens: int, threads: int) -> Iterator[dict[str, Loop]]:
    """llama-cpp-python's own ways to generate, greedy; it keeps the prompt's cache from call to call."""
    from llama_cpp import Llama

    theirs = Llama(str(model.bundle.file("model")), n_ctx=model.engine.context, n_threads=threads, n_threads_batch=threads,
                   n_batch=512, verbose=False)  # fmt: skip

    def generated() -> float:
        steps = theirs.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0)
        next(steps)  # behind the prompt
        return timed_steps(lambda: next(steps), tokens - 1)

    def completed() -> float:
        pieces = theirs.create_completion(ids, max_tokens=tokens, temperature=0.0, top_k=1, repeat_penalty=1.0, stream=True,
                                          logit_bias={str(theirs.token_eos()): -100.0})  # fmt: skip
        next(pieces)
        started, count = time.perf_counter(), sum(1 for _ in pieces)
        return (time.perf_counter() - started) / max(1, min(count, tokens - 1))

    yield {"llama.cpp, generate": generated, "llama.cpp, create_completion": completed}
    theirs.close()


@contextmanager
def onnx_loops(model: Model, ids: list[int], tokens: int, threads: int, out: Path) -> Iterator[dict[str, Loop]]:
    loops: dict[str, Loop] = {"onnxruntime, bare loop": bare(model, ids, tokens)}
    if find_spec("onnxruntime_genai") is not None:
        loops["onnxruntime-genai"] = genai(model, ids, tokens, threads, out)
    yield loops


def bare(model: Model, ids: list[int], tokens: int) -> Loop:
    """One buffer bound once as past and present; embed, bind, run, take the largest: the least that a loop can do."""
    from onnxruntime import OrtValue

    embed, decoder = model.engine._embed, model.engine._decoder
    inputs = {one.name: one for one in decoder.get_inputs()}
    bound, room = decoder.io_binding(), 1 << (len(ids) + tokens).bit_length()
    buffers = []
    for name, one in inputs.items():
        if name.startswith("past"):
            value = OrtValue.ortvalue_from_numpy(np.zeros((1, one.shape[1], room, one.shape[3]), np.float32))
            bound.bind_ortvalue_input(name, value)
            bound.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
            buffers.append(value)

    def run(new: list[int], past: int) -> int:
        rows = embed.run(None, {"input_ids": np.array([new])})[0]
        bound.bind_cpu_input("inputs_embeds", rows)
        bound.bind_cpu_input("attention_mask", np.ones((1, past + len(new)), np.int64))
        bound.bind_output("logits", "cpu")
        decoder.run_with_iobinding(bound)
        return int(bound.get_outputs()[-1].numpy()[0, -1].argmax())

    run(ids, 0)

    def loop() -> float:
        state = {"token": ids[-1], "past": len(ids)}

        def step() -> None:
            state["token"] = run([state["token"]], state["past"])
            state["past"] += 1

        return timed_steps(step, tokens)

    return loop


def genai(model: Model, ids: list[int], tokens: int, threads: int, out: Path) -> Loop:
    """onnxruntime-genai on the same embedding and decoder, made into the one graph from ids to logits that it takes."""
    import onnxruntime_genai as og

    folder = genai_folder(model, threads, out)
    loaded = og.Model(str(folder))
    settings = og.GeneratorParams(loaded)
    settings.set_search_options(max_length=model.engine.context, min_length=model.engine.context, do_sample=False)
    generator = og.Generator(loaded, settings)
    generator.append_tokens(ids)
    generator.generate_next_token()

    def loop() -> float:
        generator.rewind_to(len(ids))
        generator.append_tokens(ids[-1:])
        generator.generate_next_token()
        return timed_steps(generator.generate_next_token, tokens - 1)

    return loop


def genai_folder(model: Model, threads: int, out: Path) -> Path:
    import onnx

    embed, decoder = (onnx.load(model.bundle.file(role), load_external_data=False) for role in ("embed", "decoder"))
    whole, source = decoder.graph, model.bundle.file("decoder").parent
    whole.input.remove(next(one for one in whole.input if one.name == "inputs_embeds"))
    whole.input.insert(0, embed.graph.input[0])
    for node in reversed(embed.graph.node):
        whole.node.insert(0, node)
    whole.initializer.extend(embed.graph.initializer)
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(decoder, out / "model.onnx")
    for data in source.glob("*_data*"):
        (out / data.name).unlink(missing_ok=True)
        os.link(data, out / data.name)
    past = [one for one in whole.input if one.name.startswith("past_key_values") and one.name.endswith("key")]
    heads, head = (past[0].type.tensor_type.shape.dim[at].dim_value for at in (1, 3))
    names = {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    presents = {"present_key_names": "present.%d.key", "present_value_names": "present.%d.value"}
    stop = model.engine.vocabulary - 1
    decoding = {
        "session_options": {"intra_op_num_threads": threads, "provider_options": []}, "filename": "model.onnx",
        "head_size": head, "hidden_size": heads * head, "num_attention_heads": heads, "num_key_value_heads": heads,
        "num_hidden_layers": len(past), "outputs": {"logits": "logits", **presents},
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **names},
    }  # fmt: skip
    config = {
        "model": {"type": "phi3", "vocab_size": model.engine.vocabulary, "context_length": model.engine.context,
                  "bos_token_id": 1, "eos_token_id": stop, "pad_token_id": stop, "decoder": decoding},
        "search": {"do_sample": False, "max_length": model.engine.context, "past_present_share_buffer": True},
    }  # fmt: skip
    write_text(out / "genai_config.json", json.dumps(config))
    return out


def measure_loops(model: Model, tokens: int, rounds: int, threads: int, out: Path) -> dict[str, Any]:
    image = picture(model.image.size)
    model.look(image)
    ids = prompt_of(model, image)
    gguf = model.bundle.target == "gguf"
    with llama_loops(model, ids, tokens, threads) if gguf else onnx_loops(model, ids, tokens, threads, out) as others:
        times = interleaved({"edgereverie": lambda: ours(model, image, tokens)} | others, rounds)
    return {
        "prompt": len(ids), "tokens": tokens,
        "milliseconds_a_token": {name: round(1000 * median(found), 3) for name, found in times.items()},
        "our_speed_over_theirs": {name: round(ratio(found, times["edgereverie"]), 3)
                                  for name, found in times.items() if name != "edgereverie"},
    }  # fmt: skip


def measure_guards(model: Model, guards: list[str], tokens: int, rounds: int) -> dict[str, Any]:
    text = description(model, tokens)
    length = len(model.tokenizer.encode(text, add_special_tokens=False).ids)
    found = running(replaying(model, text), picture(model.image.size), guards=guards, max_tokens=length, rounds=rounds)
    return asdict(found) | {"claims": len(claims(DESCRIBE, text)), "description": text, "description_tokens": length}


# Memory


def resident() -> float:
    """Megabytes of this process, as Linux counts them."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


def measure_memory(path: Path | str, questions: int) -> dict[str, Any]:
    """Twelve pictures, so that the last ones are forgotten and looked at again; every fifth answer is verified."""
    marks = {}
    with stages.open_model(str(path)) as model:
        for number in range(1, questions + 1):
            guard = "verify" if number % 5 == 0 else "none"
            asked = DESCRIBE if number % 2 else f"Is there a ring number {number} in the image?"
            model.answer(picture(96, number % 12), [Turn("user", asked)], Options(max_tokens=24), guard)
            if number in (questions // 5, questions):
                marks[number] = round(resident(), 1)
    first, last = marks.values()
    return {"questions": questions, "resident_mb_after": marks, "grown_mb": round(last - first, 1)}


# Agreement


FORMS = {  # how the starter is exported; the first two compute in 32 bit throughout
    "GGUF F32": ("gguf-f16", {"quantization": "F32"}), "ONNX fp32": ("onnx-fp32", {}), "GGUF F16": ("gguf-f16", {}),
    "GGUF Q8_0": ("gguf-q8-0", {}), "GGUF Q4_K_M": ("gguf-q4-k-m", {}), "ONNX int4": ("onnx-int4", {}),
    "ONNX int4, shared": ("onnx-int4-shared", {}),
}  # fmt: skip


def measure_agreement(out: Path, questions: int) -> dict[str, Any]:
    from agreement import compare
    from agreement import questions as held_out

    from edgereverie.backbones import starter
    from edgereverie.export.base import load_profile
    from edgereverie.export.write import export_bundle

    data, found = out / "scenes", {}
    if not data.is_dir():
        stages.draw_scenes(data, train=10, heldout=max(40, questions // 4), seed=11, companion_share=0.5)
    asked = held_out(data, questions)
    with stages.open_model("starter", precise=True) as reference:
        answers = [
            reference.answer(image, [Turn("user", words)], Options(max_tokens=120)).text for image, words in asked
        ]
        for form, (profile, changes) in FORMS.items():
            place = out / f"starter-{form.replace(', ', '-').replace(' ', '-').lower()}"
            if not place.is_dir():
                profiled = load_profile(profile).model_copy(update=changes)
                export_bundle(starter.shipped(), profiled, place, made_from={"model": "starter"})
            with stages.open_model(str(place), precise=True) as other:
                found[form] = compare(reference, other, asked, answers)
            found[form] |= {
                "different": found[form]["different"][:5],
                "answers_that_differ": len(found[form]["different"]),
            }
            print(f"{form}: {found[form]['equal_answers']:.1%} of {len(asked)} answers equal", flush=True)
    return found


def versions() -> dict[str, str]:
    found = {}
    for package in ("edgereverie", "llama-cpp-python", "onnxruntime", "onnxruntime-genai", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/runtime"))
    parser.add_argument("--model", help="A model folder, or starter, instead of the random half billion.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--guards", nargs="+", default=[name for name in MEASURED if name in GUARDS.names()])
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--questions", type=int, default=1000, help="For memory; half as many for agreement.")
    parser.add_argument("--result", type=Path, default=RESULTS / "runtime.json")
    chosen = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # all loops with as many
    chosen.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = json.loads(chosen.result.read_text("utf-8")) if chosen.result.is_file() else {}
    report |= {"threads": threads, "versions": versions(), "rounds": chosen.rounds}

    def tell(part: str, name: str, found: dict[str, Any]) -> None:
        report.setdefault(part, {})[name] = found
        print(part, name, json.dumps(found, indent=1), flush=True)
        chosen.result.parent.mkdir(parents=True, exist_ok=True)
        write_text(chosen.result, json.dumps(report, indent=1) + "\n")

    source = stages.model_folder(chosen.model).path if chosen.model else None
    for profile in PROFILES:
        name = "half-billion" if source is None else source.name
        path = chosen.out / f"{name}-{profile}"
        if not path.is_dir():
            bundle(source or half_billion(chosen.out / name), profile, path)
        if "loops" in chosen.only or "guards" in chosen.only:
            with ExitStack() as stack:
                model = stack.enter_context(stages.open_model(str(path)))
                title = f"{name}, {Bundle.load(path).quantization}"
                if "loops" in chosen.only:
                    place = chosen.out / f"{name}-genai"
                    tell("loops", title, measure_loops(model, chosen.tokens, chosen.rounds, threads, place))
                if "guards" in chosen.only:
                    tell("guards", title, measure_guards(model, chosen.guards, chosen.tokens, chosen.rounds))
        if "memory" in chosen.only:
            from edgereverie.backbones import starter

            small = bundle(starter.shipped().path, profile, chosen.out / f"starter-{profile}")
            tell("memory", profile, measure_memory(small, chosen.questions))
    if "agree" in chosen.only:
        tell("agree", "starter", measure_agreement(chosen.out, chosen.questions // 2))


if __name__ == "__main__":
    main()
