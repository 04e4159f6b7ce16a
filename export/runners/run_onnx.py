"""Run an ONNX bundle with onnxruntime, numpy, Pillow and tokenizers alone.

    python run_onnx.py BUNDLE IMAGE "Is there a ring?"

Everything that it needs is in the bundle; copy this file to the device and change it as you like.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image
from tokenizers import Tokenizer

MAX_TOKENS = 128
# By the bundle's chat format: how a picture and a question are written, and what ends an answer.
CHATS = {
    "phi3": ("<s><|user|>\n<image>\n{question}<|end|>\n<|assistant|>\n", ("<|end|>", "<|endoftext|>")),
    "phi3_instruct": (
        "<s><|system|>\nYou are a helpful AI assistant.<|end|>\n<|user|>\n<image>\n{question}<|end|>\n<|assistant|>\n",
        ("<|end|>", "<|endoftext|>"),
    ),
    "vicuna_v1": (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\n{question} ASSISTANT:",
        ("</s>",),
    ),
    "stablelm": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\n{question} ASSISTANT:",
        ("<|endoftext|>",),
    ),
    "phi": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\n{question} ASSISTANT:",
        ("<|endoftext|>",),
    ),
    "qwen": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\n{question} ASSISTANT:",
        ("<|endoftext|>",),
    ),
    "chatml": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n{question}<|im_end|>\n"
        "<|im_start|>assistant\n",
        ("<|im_end|>", "<|endoftext|>"),
    ),
}


def read_image(path, spec):
    """(1, 3, size, size) float32: padded to a square with the mean colour, or cropped, then normalised."""
    picture, size = Image.open(path).convert("RGB"), spec["size"]
    if picture.size != (size, size) and spec["fit"] == "pad":
        canvas = Image.new("RGB", (max(picture.size),) * 2, tuple(int(value * 255) for value in spec["mean"]))
        canvas.paste(picture, ((canvas.width - picture.width) // 2, (canvas.height - picture.height) // 2))
        picture = canvas.resize((size, size), Image.Resampling.BICUBIC)
    elif picture.size != (size, size):
        width, height = (size * side // min(picture.size) for side in picture.size)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    values = (np.asarray(picture, np.float32) / 255 - np.float32(spec["mean"])) / np.float32(spec["std"])
    return values.transpose(2, 0, 1)[None]


def main(folder, image, question):
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    path = {role: str(folder / entry["path"]) for role, entry in bundle["files"].items()}
    tokenizer = Tokenizer.from_file(path["tokenizer"])
    config = json.loads(Path(path["config"]).read_text(encoding="utf-8"))
    vision, embed, decoder = (ort.InferenceSession(path[role]) for role in ("vision", "embed", "decoder"))

    prompt, ends = CHATS[bundle["chat"]]
    ids = tokenizer.encode(prompt.replace("{question}", question), add_special_tokens=False).ids
    pixels = read_image(image, bundle["image"])
    if vision.get_inputs()[0].type == "tensor(float16)":
        pixels = pixels.astype(np.float16)
    features = vision.run(None, {"pixel_values": pixels})[0][0]
    at = ids.index(config["image_token_index"])
    ids[at : at + 1] = [config["image_token_index"]] * len(features)
    embeds = embed.run(None, {"input_ids": np.array([ids], np.int64)})[0]
    embeds[0, at : at + len(features)] = features

    stops = {tokenizer.token_to_id(text) for text in ends}
    takes = {i.name: i for i in decoder.get_inputs()}
    dtype = np.float16 if takes["inputs_embeds"].type == "tensor(float16)" else np.float32
    past = {n: np.zeros((1, i.shape[1], 0, i.shape[3]), dtype) for n, i in takes.items() if n.startswith("past")}
    answer, fed = [], 0
    for _ in range(MAX_TOKENS):
        count = embeds.shape[1]
        feeds = {
            "inputs_embeds": embeds,
            "attention_mask": np.ones((1, fed + count), np.int64),
            "position_ids": np.arange(fed, fed + count)[None],
        }
        feeds = {name: value for name, value in feeds.items() if name in takes}
        logits, *present = decoder.run(None, feeds | past)
        past, fed = dict(zip(past, present, strict=True)), fed + count
        token = int(logits[0, -1, : tokenizer.get_vocab_size()].argmax())
        if token in stops:
            break
        answer.append(token)
        embeds = embed.run(None, {"input_ids": np.array([[token]], np.int64)})[0]
    print(tokenizer.decode(answer, skip_special_tokens=False).strip())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
