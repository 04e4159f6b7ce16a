"""A run's log as TensorBoard reads it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


def tensorboard(folder: Path) -> TrainerCallback | None:
    """Writes the log as TensorBoard events, where that package is installed.

    The log holds the same figures: when events cannot be written, that is told, and the run goes on without them.
    """
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    class Events(TensorBoardCallback):
        def _or_none(self, write: Callable[..., None], *given: Any, **named: Any) -> None:
            if self.tb_writer is None:
                return
            try:
                write(*given, **named)
            except OSError as error:
                self.tb_writer = None
                warnings.warn(f"{folder}: no more events are written ({error}).", RuntimeWarning, stacklevel=2)

        def on_train_begin(self, *given, **named):
            self._or_none(super().on_train_begin, *given, **named)

        def on_log(self, *given, **named):
            self._or_none(super().on_log, *given, **named)

        def on_train_end(self, *given, **named):
            self._or_none(super().on_train_end, *given, **named)

    try:
        return Events(SummaryWriter(log_dir=str(folder)))
    except OSError as error:
        warnings.warn(f"{folder}: no events are written ({error}).", RuntimeWarning, stacklevel=2)
        return None
