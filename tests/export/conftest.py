"""A small model with nothing at its default, its bundles, and three engines that call each runtime directly.

The engines use no code of edgereverie, so that what they agree on is what the runtimes themselves compute.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgereverie.backbones.base import ModelFolder, open_folder
from edgereverie.bundle import Bundle

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")
pytest.importorskip("onnxruntime")
llama = pytest.importorskip("llama_cpp")

SENTENCES = [
    "Is there a red ring in the picture? Yes, there is a red ring to the left of the small blue cross.",
    "Describe the picture. There are three yellow stars above a large green square, which the reason explains.",
    "No, there is no purple heart. The answer is wrong because the picture shows an orange circle instead.",
]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return SENTENCES


@pytest.fixture(scope="session")
def tiny(untrained, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """The starter's architecture with random weights, none of them at a value that would hide a mistake.

    Freshly initialised norms are all 1 and biases all 0: exchanged or forgotten, nobody would notice.
    """
    out = tmp_path_factory.mktemp("models") / "tiny"
    out.mkdir()
    folder = open_folder(untrained(out, SENTENCES * 30, 3))
    model = folder.load()
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.2 * torch.randn_like(parameter))
            elif "language_model" in name and "embed" not in name:
                parameter.mul_(2.5)
    model.save_pretrained(out)
    return open_folder(out)


@pytest.fixture(scope="session")
def bundles(tiny: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The tiny model's bundle of a shipped profile; each is exported once."""
    from edgereverie.export.base import load_profile
    from edgereverie.export.write import export_bundle

    root, made = tmp_path_factory.mktemp("bundles"), {}

    def of(profile: str) -> Bundle:
        if profile not in made:
            made[profile] = export_bundle(tiny, load_profile(profile), root / profile, made_from={"model": "tiny"})
        return made[profile]

    return of


class TorchEngine:
    """transformers' own LlavaForConditionalGeneration."""

    backend, context = "torch", 512

    def __init__(self, folder: ModelFolder) -> None:
        self.model, self.image_token = folder.load(), folder.config["image_token_index"]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.model.get_image_features(torch.from_numpy(pixels)[None]).pooler_output[0].numpy()

    def open(self) -> Any:
        return _Stream(self._logits)

    def forward(self, ids: list[int], pixels: np.ndarray | None) -> np.ndarray:
        """The whole model in one call, pictures included, as a user of transformers would call it."""
        with torch.no_grad():
            pictures = None if pixels is None else torch.from_numpy(pixels)[None]
            return self.model(input_ids=torch.tensor([ids]), pixel_values=pictures).logits[0].numpy()

    def _logits(self, ids: list[int], features: np.ndarray | None) -> np.ndarray:
        with torch.no_grad():
            embeds = self.model.get_input_embeddings()(torch.tensor([ids]))
            if features is not None:
                embeds[0, torch.tensor(ids) == self.image_token] = torch.from_numpy(features)
            return self.model(inputs_embeds=embeds).logits[0].numpy()


class _Stream:
    """Recomputes everything at each feed: slow, and nothing to get wrong."""

    def __init__(self, logits: Callable[[list[int], np.ndarray | None], np.ndarray]) -> None:
        self.ids: list[int] = []
        self.features: np.ndarray | None = None
        self.compute = logits

    def feed(self, ids: Any, features: np.ndarray | None = None, *, logits: str = "last") -> np.ndarray:
        self.ids += list(ids)
        self.features = features if features is not None else self.features
        found = self.compute(self.ids, self.features)
        return found[-len(ids) :] if logits == "all" else found[-1:]

    def fork(self) -> _Stream:
        twin = _Stream(self.compute)
        twin.ids, twin.features = list(self.ids), self.features
        return twin

    def close(self) -> None:
        pass


class OrtEngine:
    """onnxruntime on the three graphs, one position after the other where ``stepwise``."""

    backend, context = "onnxruntime", 512

    def __init__(self, bundle: Bundle, image: int, *, stepwise: bool = False) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        self.vision, self.embed, self.decoder = (
            ort.InferenceSession(bundle.file(role), options, providers=["CPUExecutionProvider"])
            for role in ("vision", "embed", "decoder")
        )
        self.image_token, self.stepwise = image, stepwise

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self.vision.run(["image_features"], {"pixel_values": pixels[None]})[0][0]

    def open(self) -> _Stream:
        return _Stream(self._logits)

    def _logits(self, ids: list[int], features: np.ndarray | None) -> np.ndarray:
        embeds = self.embed.run(None, {"input_ids": np.array([ids], np.int64)})[0]
        if features is not None:
            embeds[0, np.array(ids) == self.image_token] = features
        past_names = [i.name for i in self.decoder.get_inputs() if i.name.startswith("past")]
        heads, head = self.decoder.get_inputs()[3].shape[1], self.decoder.get_inputs()[3].shape[3]
        past = {name: np.zeros((1, heads, 0, head), np.float32) for name in past_names}
        found, step = [], 1 if self.stepwise else len(ids)
        for start in range(0, len(ids), step):
            end = start + step
            feeds = {"inputs_embeds": embeds[:, start:end], "attention_mask": np.ones((1, end), np.int64),
                     "position_ids": np.arange(start, end)[None]}  # fmt: skip
            logits, *present = self.decoder.run(None, feeds | past)
            past = dict(zip(past_names, present, strict=True))
            found.append(logits[0])
        return np.concatenate(found)


class LlamaEngine:
    """llama.cpp through llama_batch, caches in 32 bit and flash attention off, features fed as embeddings."""

    backend, context = "llama.cpp", 512

    def __init__(self, gguf: Path, image: int, features: Callable[[np.ndarray], np.ndarray]) -> None:
        self.image_token, self.encode = image, features
        params = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(str(gguf).encode(), params)
        assert self.model
        self.rows = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.width = llama.llama_model_n_embd(self.model)

    def open(self) -> _Stream:
        return _Stream(self._logits)

    def _logits(self, ids: list[int], features: np.ndarray | None) -> np.ndarray:
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.type_k = params.type_v = 0  # GGML_TYPE_F32
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_threads = params.n_threads_batch = 1
        context = llama.llama_init_from_model(self.model, params)
        found, row, start = [], 0, 0
        while start < len(ids):
            pictured = ids[start] == self.image_token
            end = start
            while end < len(ids) and (ids[end] == self.image_token) == pictured:
                end += 1
            count = end - start
            batch = llama.llama_batch_init(count, self.width if pictured else 0, 1)
            batch.n_tokens = count
            for i in range(count):
                batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = start + i, 1, 0, 1
                if not pictured:
                    batch.token[i] = ids[start + i]
            if pictured:
                rows = np.ascontiguousarray(features[row : row + count], np.float32)
                ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)
                row += count
            assert llama.llama_decode(context, batch) == 0
            for i in range(count):
                found.append(np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (self.rows,)).copy())
            llama.llama_batch_free(batch)
            start = end
        llama.llama_free(context)
        return np.stack(found)

    def close(self) -> None:
        llama.llama_model_free(self.model)


@pytest.fixture(scope="session", autouse=True)
def _quiet_llama() -> Iterator[None]:
    """llama.cpp's reports stay off the console."""
    from llama_cpp._logger import set_verbose

    llama.llama_backend_init()
    set_verbose(False)
    yield


@pytest.fixture(scope="session")
def reference(tiny: ModelFolder) -> TorchEngine:
    return TorchEngine(tiny)


@pytest.fixture(scope="session")
def make_reference() -> Callable[[ModelFolder], TorchEngine]:
    return TorchEngine


@pytest.fixture(scope="session")
def run_gguf(tiny: ModelFolder, reference: TorchEngine) -> Callable[[Path], LlamaEngine]:
    return lambda gguf: LlamaEngine(gguf, tiny.config["image_token_index"], reference.encode)


@pytest.fixture(scope="session")
def run_onnx(tiny: ModelFolder) -> Callable[..., OrtEngine]:
    return lambda bundle, **settings: OrtEngine(bundle, tiny.config["image_token_index"], **settings)


@pytest.fixture(scope="session")
def cases(tiny: ModelFolder) -> list[tuple[list[int], np.ndarray | None]]:
    """Prompts with and without a picture, through the chat format and the image preparation that all stages share."""
    from edgereverie import chat, image
    from edgereverie.export.probe import draw_probe
    from edgereverie.records import Turn

    tokenizer, pixels = tiny.tokenizer(), image.prepare(draw_probe(tiny.image), tiny.image)
    found: list[tuple[list[int], np.ndarray | None]] = []
    for index, sentence in enumerate(SENTENCES):
        turns = [Turn("user", sentence), Turn("assistant", SENTENCES[index - 1])]
        for picture in (None, pixels[:, :: (-1) ** index]):
            ids, _ = chat.encode(tokenizer, tiny.chat, turns, image_tokens=0 if picture is None else tiny.image.tokens)
            found.append((ids, None if picture is None else np.ascontiguousarray(picture)))
    return found
