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
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


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


def tokenize(tokenizer, prompt, question):
    """Ids before and after the picture. Its marker is one token, or unknown to the tokenizer: then each side is a text."""
    text, marker = prompt["before"] + question + prompt["after"], tokenizer.token_to_id(prompt["image"])
    if marker is None:
        return [tokenizer.encode(side, add_special_tokens=False).ids for side in text.split(prompt["image"], 1)]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    return ids[: ids.index(marker)], ids[ids.index(marker) + 1 :]


def main(folder, image, question):
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    path = {role: str(folder / entry["path"]) for role, entry in bundle["files"].items()}
    tokenizer = Tokenizer.from_file(path["tokenizer"])
    prompt = json.loads(Path(path["prompt"]).read_text(encoding="utf-8"))
    vision, embed, decoder = (ort.InferenceSession(path[role]) for role in ("vision", "embed", "decoder"))

    before, after = tokenize(tokenizer, prompt, question)
    pixels = read_image(image, bundle["image"]).astype(TYPES[vision.get_inputs()[0].type])
    features = vision.run(None, {"pixel_values": pixels})[0][0]
    # Any id holds the picture's place: its embedding is replaced.
    ids = np.array([before + [after[0]] * len(features) + after], np.int64)
    embeds = embed.run(None, {"input_ids": ids})[0]
    embeds[0, len(before) : len(before) + len(features)] = features

    stops = {tokenizer.token_to_id(text) for text in prompt["stops"]}
    inputs = {i.name: i for i in decoder.get_inputs()}  # with a shared cache there are no position_ids
    real = TYPES[inputs["inputs_embeds"].type]
    past = {
        n: np.zeros((1, i.shape[1], 0, i.shape[3]), TYPES[i.type]) for n, i in inputs.items() if n.startswith("past")
    }
    answer, fed = [], 0
    while len(answer) < MAX_TOKENS and fed + embeds.shape[1] <= bundle["context"]:
        count = embeds.shape[1]
        feeds = {
            "inputs_embeds": embeds.astype(real),
            "attention_mask": np.ones((1, fed + count), np.int64),
            "position_ids": np.arange(fed, fed + count)[None],
        }
        logits, *present = decoder.run(None, {name: feeds[name] for name in feeds if name in inputs} | past)
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
