"""The one thread that uses the model, and the queue before it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from edgereverie.errors import BackendError, DataError, EdgeReverieError
from edgereverie.records import Options, Turn
from edgereverie.runtime.engine import CacheFull
from edgereverie.runtime.model import Model
from edgereverie.runtime.request import Done, Event
from edgereverie.runtime.sight import Picture
from edgereverie.server.refusal import Refusal, busy, told

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What ``Model.events`` takes."""

    image: Picture
    turns: tuple[Turn, ...]
    options: Options
    guards: str


@dataclass(eq=False, slots=True)
class _Job:
    question: Question
    loop: asyncio.AbstractEventLoop
    told: asyncio.Queue[Event | Refusal] = field(default_factory=asyncio.Queue)
    cancelled: bool = False

    def tell(self, what: Event | Refusal) -> None:
        """From the worker's thread. The loop may have ended before the last answer did."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.told.put_nowait, what)


class Worker:
    """Answers one question after the other. waiting: how many may wait behind the one that is answered.

    The model is taken over, and closed by the thread that used it.
    """

    def __init__(self, model: Model, waiting: int) -> None:
        self._model, self._waiting = model, waiting
        self._queue: deque[_Job] = deque()
        self._current: _Job | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._places = 0  # only the event loop's thread changes it
        self._thread = threading.Thread(target=self._run, name="edgereverie-model", daemon=True)
        self._thread.start()

    @property
    def load(self) -> int:
        """Questions that are read, wait or are answered; one that was given up counts until the model has let go of it."""
        current = self._current
        return self._places + (current is not None and current.cancelled)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closing

    def require_room(self) -> None:
        """Raises the Refusal that a question would meet now."""
        if not self.alive:
            raise busy("The server is stopping.", 5)
        if self.load > self._waiting:
            raise busy(f"{self.load} questions are waiting already.", 2, status=429, code="queue_full")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, from before the question's picture is decoded until its answer is sent."""
        self.require_room()
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def answer(self, question: Question) -> AsyncIterator[Event]:
        """The answer's events, last a Done, for whoever holds a place. Closing this iterator stops the answer at its next
        token.

        Raises Refusal when the question does not fit the model, the model fails, or the server stops.
        """
        job = _Job(question, asyncio.get_running_loop())
        with self._changed:
            if self._closing:
                raise busy("The server is stopping.", 5)
            self._queue.append(job)
            self._changed.notify()
        try:
            while True:
                what = await job.told.get()
                if isinstance(what, Refusal):
                    raise what
                yield what
                if isinstance(what, Done):
                    return
        finally:
            self._cancel(job)

    def _cancel(self, job: _Job) -> None:
        with self._changed:
            job.cancelled = True
            if job in self._queue:
                self._queue.remove(job)

    def close(self, seconds: float = 10.0) -> bool:
        """Stop after the current token. True when the thread has ended, and the model is nobody's any more."""
        with self._changed:
            self._closing = True
            for job in (*self._queue, self._current):
                if job is not None:
                    job.cancelled = True
                    job.tell(busy("The server is stopping.", 5))
            self._queue.clear()
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with closing(self._model):
            while (job := self._next()) is not None:
                self._work(job)

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._queue)
            self._current = None if self._closing else self._queue.popleft()
            return self._current

    def _work(self, job: _Job) -> None:
        try:
            self._answer(job)
        except Refusal as refusal:
            job.tell(refusal)
        except Exception:
            _log.exception("An answer failed in a way that was not foreseen.")
            job.tell(Refusal(500, "The server failed to answer; its log says why.", code="internal_error"))
        finally:
            self._current = None

    def _answer(self, job: _Job) -> None:
        question = job.question
        try:
            # What is raised here is about the question: too long, roles in disorder, a control token in its text.
            events = self._model.events(question.image, question.turns, question.options, question.guards)
        except EdgeReverieError as error:
            raise _unfit(error) from None
        try:
            with closing(events):  # its streams are given back now, not when it is collected
                for event in events:
                    if job.cancelled:
                        return
                    job.tell(event)
        except CacheFull as error:
            raise busy(told(error), 2) from None
        except DataError as error:
            raise Refusal(400, told(error)) from None
        except EdgeReverieError as error:
            _log.error("%s", told(error))
            raise Refusal(500, str(error), code="model_failed") from None  # its hint is for whoever runs the server


def _unfit(error: EdgeReverieError) -> Refusal:
    code = "context_length_exceeded" if isinstance(error, BackendError) and "context" in str(error) else None
    return Refusal(400, told(error), param="messages", code=code)
