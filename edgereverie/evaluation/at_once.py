"""Work shared by several hands, each busy with one thing at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(things: Sequence[T], hands: Sequence[Callable[[T], R]]) -> Iterator[R]:
    """What becomes of each thing, as it comes; with one hand in the things' order, and in the caller's own thread.

    Several hands take the next thing as they become free, each in a thread of its own, so they should wait for something
    outside this process. The first error is raised and nothing new is begun; what is under way is not waited for.
    """
    if len(hands) == 1:
        yield from map(hands[0], things)
        return
    waiting, lock, stopped = iter(things), threading.Lock(), threading.Event()
    done: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()

    def work(hand: Callable[[T], R]) -> None:
        while not stopped.is_set():
            with lock:
                thing = next(waiting, stopped)
            if thing is stopped:
                return
            try:
                done.put((hand(thing), None))  # type: ignore[arg-type]
            except BaseException as error:
                done.put((None, error))
                return

    for hand in hands:
        threading.Thread(target=work, args=(hand,), daemon=True).start()
    try:
        for _ in things:
            result, error = done.get()
            if error is not None:
                raise error
            yield result  # type: ignore[misc]
    finally:
        stopped.set()
