"""One model in several processes, each with its share of the processors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import edgereverie
from edgereverie import errors
from edgereverie.errors import BackendError, EdgeReverieError
from edgereverie.records import Answer


class Worker:
    """A process that loads a model and answers, as ``_answerers.asking`` does in this one. of: how many there are.

    It is loading when this returns, so that several load together.
    """

    def __init__(self, place: str, backend: str, guard: str, *, of: int) -> None:
        from edgereverie.runtime.backends._onnx import threads

        root = str(Path(edgereverie.__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        share = str(max(1, threads() // of))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": share}
        command = [sys.executable, "-P", "-m", "edgereverie.stages._worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._say({"model": place, "backend": backend, "guard": guard})

    def hello(self) -> dict[str, str]:
        """Backend and device, when the model is loaded."""
        return self._hear()

    def __call__(self, image: Path | None, questions: Sequence[str], room: int) -> list[Answer]:
        from edgereverie.evaluation.journal import answer_from_json

        self._say({"image": None if image is None else str(image.resolve()), "questions": questions, "room": room})
        return [answer_from_json(row) for row in self._hear()["answers"]]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()

    def _say(self, value: Mapping[str, Any]) -> None:
        with suppress(BrokenPipeError):  # it ended, as reading its reply will tell
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise BackendError(
                f"A process that answered questions ended (exit status {self._process.wait()}).",
                hint="Its last words stand above. Where memory ran out, use fewer --jobs; the journal has what was answered.",
            )
        told = json.loads(line)
        if "error" in told:
            kind = getattr(errors, told["error"], BackendError)
            raise (EdgeReverieError if kind is errors.MissingPackage else kind)(told["message"], hint=told["hint"])
        return told
