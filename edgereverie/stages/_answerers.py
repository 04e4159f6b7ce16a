"""Who answers a benchmark's questions: a model in this process, the same one in several, or a server."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgereverie.bundle import MANIFEST, Bundle, sha256_of
from edgereverie.errors import BackendError
from edgereverie.records import Answer, Options
from edgereverie.stages._processes import Worker
from edgereverie.stages._served import BACKEND, is_server, key_in, requesting, server_at
from edgereverie.stages.backbones import model_folder, open_model

if TYPE_CHECKING:
    from edgereverie.backbones.base import ModelFolder
    from edgereverie.evaluation.benchmarks.base import Answerer
    from edgereverie.runtime.model import Model


@dataclass(frozen=True, slots=True)
class Asked:
    """How models are asked. append: words behind every question, on a line of their own. jobs: processes of one model, or
    requests to a server that are under way together. served, key: a server's model where it serves several, and the environment
    variable that holds its key.
    """

    guard: str = "none"
    append: str = ""
    backend: str = "auto"
    jobs: int = 1
    served: str | None = None
    key: str | None = None


@dataclass(slots=True)
class Answerers:
    """hands: each answers a picture's questions. artefact: fingerprint of the model, empty where a server keeps it to itself.
    identity: all that the answers hang on. remarks: what reports should say of the answers, with its number.
    """

    hands: Sequence[Answerer]
    backend: str
    artefact: str
    identity: str
    remarks: Counter[str] = field(default_factory=Counter)


def require_possible(place: str, asked: Asked) -> None:
    """Raise what is known to go wrong before any weights are loaded: no such model, no such backend or package, no key, guards
    that do not go together.
    """
    from edgereverie.runtime.choosing import backend_for
    from edgereverie.runtime.engine import require_packages
    from edgereverie.runtime.guarding import chosen

    if asked.jobs < 1:
        raise BackendError(f"{asked.jobs} jobs answer nothing.", hint="Ask for at least one.")
    chosen(asked.guard)
    if is_server(place):
        if asked.guard != "none":
            raise BackendError(
                f"{place} guards its answers itself or not at all; --guard is for models on this machine.",
                hint="Leave it out; `edgereverie serve --guard` starts a server that does.",
            )
        key_in(asked.key)
        return
    if (Path(place) / MANIFEST).is_file():
        target = Bundle.load(Path(place)).target
    else:
        _folder(place)
        target = "torch"
    require_packages(backend_for(asked.backend, target, Path(place)))


def artefact(model: Model) -> str:
    """A fingerprint of what answers: the bundle's, or the hash of the weights that were loaded."""
    return _of_files(model.folder) if model.bundle is None else model.bundle.fingerprint()


@contextmanager
def answerers(place: str, asked: Asked) -> Iterator[Answerers]:
    """What ``place`` names, ready to answer. Raises as ``open_model`` and the server's client do."""
    with ExitStack() as stack:
        if is_server(place):
            server, remarks = server_at(place, asked.served, asked.key), Counter[str]()
            hand = _appending(requesting(server, remarks), asked.append)
            told = _digest([server.identity, asked.append])
            yield Answerers([hand] * asked.jobs, BACKEND, "", told, remarks)
        elif asked.jobs == 1:
            yield in_process(stack.enter_context(open_model(place, backend=asked.backend)), asked)
        else:
            workers = []
            for _ in range(asked.jobs):
                workers.append(Worker(place, asked.backend, asked.guard, of=asked.jobs))
                stack.callback(workers[-1].close)
            about, *_ = [worker.hello() for worker in workers]  # all of them: each has loaded then
            bundle = Bundle.load(Path(place)) if (Path(place) / MANIFEST).is_file() else None
            mark = bundle.fingerprint() if bundle else _of_files(_folder(place).path)
            hands = [_appending(worker, asked.append) for worker in workers]
            yield _local(hands, about, mark, bundle, asked)


def in_process(model: Model, asked: Asked) -> Answerers:
    """A model that is open."""
    hand = _appending(asking(model, asked.guard), asked.append)
    about = {"backend": model.engine.backend, "device": model.engine.device}
    return _local([hand], about, artefact(model), model.bundle, asked)


def asking(model: Model, guard: str) -> Answerer:
    """The model as one hand: what it answers about a picture does not hang on what it was asked before."""

    def answer(image: Path | None, questions: Sequence[str], room: int) -> list[Answer]:
        model.forget()
        return model.answer_many(image, questions, Options(max_tokens=room), guard)

    return answer


def _local(
    hands: Sequence[Answerer], about: Mapping[str, str], mark: str, bundle: Bundle | None, asked: Asked
) -> Answerers:
    calibration = bundle.calibration if bundle is not None and asked.guard != "none" else None
    told = [mark, calibration, about["backend"], about["device"], asked.guard, asked.append]
    return Answerers(hands, about["backend"], mark, _digest(told))


def _appending(answer: Answerer, words: str) -> Answerer:
    if not words:
        return answer
    return lambda image, questions, room: answer(image, [f"{question}\n{words}" for question in questions], room)


def _folder(place: str) -> ModelFolder:
    from edgereverie.backbones._hub import cache_only

    with cache_only():
        return model_folder(place)


def _of_files(folder: Path) -> str:
    from edgereverie.backbones.base import open_folder

    digest = hashlib.sha256()
    for path in open_folder(folder).files():
        digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def _digest(told: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
