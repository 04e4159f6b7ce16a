"""Run a GGUF bundle with llama-cpp-python, onnxruntime (for the vision tower), numpy, Pillow and tokenizers alone.

    python run_gguf.py BUNDLE IMAGE "Is there a ring?"

Everything that it needs is in the bundle; copy this file to the device and change it as you like.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp as llama
import numpy as np
import onnxruntime as ort
from llama_cpp._logger import set_verbose
from PIL import Image
from tokenizers import Tokenizer

MAX_TOKENS = 128


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


def feed(context, start, ids=None, rows=None):
    """Append token ids, or rows of image features, at position ``start``; the last one's logits are kept."""
    count = len(ids) if rows is None else len(rows)
    batch = llama.llama_batch_init(count, 0 if rows is None else rows.shape[1], 1)
    batch.n_tokens = count
    for i in range(count):
        batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = start + i, 1, 0, i == count - 1
        if rows is None:
            batch.token[i] = ids[i]
    if rows is not None:
        ctypes.memmove(batch.embd, np.ascontiguousarray(rows, np.float32).ctypes.data, rows.size * 4)
    status = llama.llama_decode(context, batch)
    llama.llama_batch_free(batch)
    if status:
        sys.exit(f"llama_decode failed with status {status}")
    return start + count


def main(folder, image, question):
    set_verbose(False)
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    path = {role: str(folder / entry["path"]) for role, entry in bundle["files"].items()}
    tokenizer = Tokenizer.from_file(path["tokenizer"])
    prompt = json.loads(Path(path["prompt"]).read_text(encoding="utf-8"))
    before, after = tokenize(tokenizer, prompt, question)
    pixels = read_image(image, bundle["image"])
    features = ort.InferenceSession(path["vision"]).run(None, {"pixel_values": pixels})[0][0]

    model = llama.llama_model_load_from_file(path["model"].encode(), llama.llama_model_default_params())
    settings = llama.llama_context_default_params()
    settings.n_ctx = min(bundle["context"], len(before) + len(features) + len(after) + MAX_TOKENS)
    settings.n_batch = settings.n_ubatch = settings.n_ctx
    context = llama.llama_init_from_model(model, settings)
    length = feed(context, feed(context, feed(context, 0, before), rows=features), after)

    stops, answer = {tokenizer.token_to_id(text) for text in prompt["stops"]}, []
    while len(answer) < MAX_TOKENS and length < settings.n_ctx:
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (tokenizer.get_vocab_size(),))
        token = int(logits.argmax())
        if token in stops:
            break
        answer.append(token)
        length = feed(context, length, [token])
    print(tokenizer.decode(answer, skip_special_tokens=False).strip())
    llama.llama_free(context)
    llama.llama_model_free(model)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
