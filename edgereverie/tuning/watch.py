"""A run is watched: progress bar, log.jsonl, and notices of what goes wrong, said on the console, in the log and in the report.

- Divergence: three logged losses in a row more than 1.5 times their running median, and ten times its usual distance from it.
- A frozen adapter: no trained parameter has moved over three logged lines although the learning rate was above 0.
- Batches without a single label that counts.
- Length: over the last 200 batches of preference pairs, the margin of rewards goes along with how much longer the preferred
  answers are (Pearson's r above 0.5, and more than 4 standard errors from 0). A judge of length would look the same.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from transformers import TrainerCallback

from edgereverie.bundle import write_text
from edgereverie.errors import TrainError
from edgereverie.tuning.losses import base_of
from edgereverie.tuning.run_folder import append, written

DIVERGENCE, FROZEN, NO_LABELS, LENGTH = "divergence", "frozen adapter", "no labels", "length"


class Divergence:
    """Losses that have left their usual range."""

    _KNOWN, _WINDOW, _TIMES, _RATIO, _ROW = 10, 50, 10.0, 1.5, 3

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=self._WINDOW)
        self.above = 0

    def see(self, loss: float) -> str | None:
        """What is wrong after this loss. Those far above the median are not counted into it."""
        if len(self.losses) >= self._KNOWN:
            middle = median(self.losses)
            usual = median(abs(one - middle) for one in self.losses)
            if loss > self._RATIO * middle and loss > middle + self._TIMES * usual:
                self.above += 1
                if self.above >= self._ROW:
                    return f"the loss is {loss:.3g}, {loss / middle:.1f} times its median of {middle:.3g}"
                return None
        self.above = 0
        self.losses.append(loss)
        return None


class Frozen:
    """Parameters that should move and do not."""

    _ROW = 3

    def __init__(self) -> None:
        self.last: list[float] | None = None
        self.still = 0

    def see(self, model: nn.Module, rate: float | None) -> str | None:
        trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
        norms = torch.stack(torch._foreach_norm(trained, 2, dtype=torch.float32)).tolist()
        moved, self.last = norms != self.last, norms
        if moved or not rate:
            self.still = 0
            return None
        self.still += 1
        if self.still < self._ROW:
            return None
        return f"none of {len(trained)} trained tensors has moved over {self.still} logged lines"


class Length:
    """Whether the margin between two answers goes along with their difference in length."""

    _WINDOW, _KNOWN, _LEAST, _ERRORS = 200, 50, 0.5, 4.0

    def __init__(self) -> None:
        self.seen: deque[tuple[float, float]] = deque(maxlen=self._WINDOW)

    def see(self, longer: float, margin: float) -> str | None:
        """longer: tokens that a batch's preferred answers have more than the others, on average."""
        self.seen.append((longer, margin))
        count = len(self.seen)
        r = correlation(*zip(*self.seen, strict=True)) if count >= self._KNOWN else 0.0
        # The standard error of r, by its usual t statistic.
        if r <= self._LEAST or r * math.sqrt((count - 2) / max(1e-12, 1 - r * r)) <= self._ERRORS:
            return None
        return f"the margin of rewards goes along with the answers' difference in length (r = {r:.2f}, {count} batches)"


def correlation(xs: tuple[float, ...], ys: tuple[float, ...]) -> float:
    """Pearson's r; 0 where one of the two does not vary.

    >>> correlation((1.0, 2.0, 3.0), (2.0, 4.0, 6.0))
    1.0
    """
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    both = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    spread = math.sqrt(sum((x - mean_x) ** 2 for x in xs) * sum((y - mean_y) ** 2 for y in ys))
    return both / spread if spread else 0.0


class Stopwatch(TrainerCallback):
    """When each step ended, in seconds; on a card, when its work was done."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **_):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


class Watch(TrainerCallback):
    """Progress bar, log.jsonl, notices, and a stop when the loss is no number."""

    def __init__(self, log: Path, console: Console, title: str) -> None:
        self.log = log
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[memory]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.progress.add_task(title, total=None, loss="-", speed="", memory="")
        self.divergence, self.frozen, self.length = Divergence(), Frozen(), Length()
        self.said: set[str] = set()
        self._clear()

    def _clear(self) -> None:
        self.kept: dict[str, list[Tensor]] = {}
        self.batches: list[tuple[Tensor | None, Tensor | None]] = []
        self.tokens, self.since = 0, time.perf_counter()

    def watch(self, batch: Mapping[str, Any], figures: Mapping[str, Tensor]) -> None:
        """Keep a batch's figures for the next line of the log, which tells their means. Nothing here waits for a device."""
        for name, value in figures.items():
            self.kept.setdefault(name, []).append(value.detach())
        halves = [batch, batch["noised"]] if "noised" in batch else [batch]
        self.tokens += sum(half["input_ids"].numel() for half in halves if "input_ids" in half)
        labels = batch["weight"].count_nonzero() if "weight" in batch else None
        self.batches.append((labels, _longer(batch, figures)))

    def figures(self) -> dict[str, float]:
        """Means of what was watched since the last line of the log, and the speed and memory of the run."""
        means = {name: float(torch.stack(values).mean()) for name, values in self.kept.items()}
        spent = max(1e-9, time.perf_counter() - self.since)
        return means | {"tokens_per_second": round(self.tokens / spent, 1), "peak_bytes": peak_bytes()}

    def memory(self) -> dict[str, Any]:
        """What a run that goes on from here should know of what was seen, and the log does not tell; as plain values."""
        return {"length": list(self.length.seen), "frozen": {"last": self.frozen.last, "still": self.frozen.still}}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Go on with the ``memory`` of a stopped run."""
        self.length.seen.extend(map(tuple, memory["length"]))
        self.frozen.last, self.frozen.still = memory["frozen"]["last"], memory["frozen"]["still"]

    def on_train_begin(self, args, state, control, **_):
        self.progress.update(self.task, total=state.max_steps, completed=state.global_step)
        if state.is_world_process_zero:
            _drop_after(self.log, state.global_step)
        for entry in entries(self.log):  # what a stopped run had seen and said
            self.divergence.see(entry["loss"])
            self.said |= {notice["kind"] for notice in entry.get("notices", ())}
        self._clear()
        if state.is_world_process_zero:
            self.progress.start()

    def on_step_end(self, args, state, control, **_):
        self.progress.update(self.task, completed=state.global_step)
        # A line of the log is a mean over the steps behind the last one: a run that goes on from here lacks none of them.
        control.should_log = control.should_log or control.should_save

    def on_log(self, args, state, control, logs=None, model=None, **_):
        if not logs or "loss" not in logs:
            return
        loss = float(logs["loss"])
        told = {name: value for name, value in logs.items() if name not in ("epoch", "loss")}
        entry = {"step": state.global_step, "loss": loss} | told
        self._show(loss, told)
        if hasattr(inner := base_of(model), "expert_load"):
            entry["experts"] = inner.expert_load()
        if notices := self._notices(loss, model, logs.get("learning_rate")):
            entry["notices"] = notices
        self._clear()
        if state.is_world_process_zero:
            append(self.log, json.dumps(entry))
        if not math.isfinite(loss):
            raise TrainError(
                f"The loss became {loss} at step {state.global_step}.",
                hint="Lower train.learning_rate, or use bf16 or fp32 instead of fp16.",
            )

    def on_train_end(self, args, state, control, **_):
        self.progress.stop()

    def _show(self, loss: float, told: Mapping[str, Any]) -> None:
        speed, memory = told.get("tokens_per_second"), told.get("peak_bytes")
        self.progress.update(
            self.task,
            loss=f"{loss:.3f}",
            speed=f"{speed:,.0f} tokens/s" if speed else "",
            memory=f"{memory / 2**30:.1f} GB" if memory else "",
        )

    def _notices(self, loss: float, model: nn.Module, rate: float | None) -> list[dict[str, str]]:
        """What is wrong now, each kind told once in a run."""
        found = {DIVERGENCE: self.divergence.see(loss), FROZEN: self.frozen.see(model, rate), NO_LABELS: None}
        empty = sum(1 for labels, _ in self.batches if labels is not None and not int(labels))
        if empty:
            found[NO_LABELS] = f"{empty} of {len(self.batches)} batches had no label that counts"
        for _, pair in self.batches:
            if pair is not None:
                found[LENGTH] = self.length.see(*pair.tolist())
        new = [{"kind": kind, "text": text} for kind, text in found.items() if text and kind not in self.said]
        for notice in new:
            self.said.add(notice["kind"])
            self.progress.console.print(f"notice ({notice['kind']}): {notice['text']}. {ADVICE[notice['kind']]}")
        return new


ADVICE = {
    DIVERGENCE: "Lower train.learning_rate, or raise train.warmup.",
    FROZEN: "Do the labels have weights, and does train.parts name what should learn?",
    NO_LABELS: "Check train.weights, and the data with: edgereverie data check",
    LENGTH: "Set train.preference.normalise to true, or balance the answers' lengths.",
}


def _longer(batch: Mapping[str, Any], figures: Mapping[str, Tensor]) -> Tensor | None:
    """(2,): tokens that preferred answers have more than rejected ones, and the margin of rewards; means over the batch."""
    if "pair" not in batch or "reward_chosen" not in figures:
        return None
    tokens = torch.bincount(batch["sequence"], minlength=2 * len(batch["pair"])).float()
    margin = figures["reward_chosen"] - figures["reward_rejected"]
    return torch.stack([(tokens[::2] - tokens[1::2]).mean(), margin.detach().float()])


def peak_bytes() -> int:
    """The most memory that this process has had: allocated on the card, or resident; 0 where the system does not tell."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():  # Linux's ru_maxrss would tell a larger parent's, from before this program was started
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def entries(log: Path) -> list[dict[str, Any]]:
    """The lines of a run's log.jsonl; none where there is no log."""
    return list(map(json.loads, log.read_text(encoding="utf-8").splitlines())) if log.is_file() else []


def _drop_after(log: Path, step: int) -> None:
    """Log lines after ``step`` belong to work that a kill undid; a torn last line goes too."""
    if not log.is_file():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if entry["step"] <= step:
            kept.append(line)
    with written(log):
        write_text(log, "".join(line + "\n" for line in kept))
