"""One training run: transformers' Trainer with our losses, in a run folder that a killed run resumes from.

runs/<name>/
    recipe.yaml      the resolved recipe        run.json    fingerprints of recipe and data, counts
    log.jsonl        loss, rate, speed and memory per logged step, what a method watches, notices of what goes wrong, and
                     where there are experts, how many tokens each of them was given
    report.html      the run on one page; curves/ holds its curves as PNG where matplotlib is installed
    tensorboard/     the same figures as events, where tensorboard is installed
    checkpoints/     to resume from; each is trusted only when its ``complete`` file is there
    adapter/         the result, in peft's own format (or model/, when whole parts were trained without an adapter)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from edgereverie.backbones.base import ModelFolder, device, save_folder
from edgereverie.bundle import new_folder, write_text
from edgereverie.errors import TrainError
from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair, Sample, as_json
from edgereverie.tuning import card, run_report
from edgereverie.tuning.methods.base import Method, Start
from edgereverie.tuning.order import BatchOrder
from edgereverie.tuning.qlora import count, place
from edgereverie.tuning.watch import Watch as _Report

_COMPLETE = "complete"


class _MethodTrainer(Trainer):
    """The Trainer with a method's loss, batches of similar length, and checkpoints that say when they are whole."""

    def __init__(self, *args: Any, method: Method, recipe: Recipe, report: _Report, **keywords: Any) -> None:
        super().__init__(*args, callbacks=[report], **keywords)
        self.method = method
        self.recipe = recipe
        self.report = report
        self.model_accepts_loss_kwargs = True  # our loss divides by the whole step's count by itself

    def _get_num_items_in_batch(self, batch_samples, device):
        """What the whole step's mean is over, in all its micro-batches and on all devices."""
        count = torch.tensor(sum(map(self.method.size, batch_samples)), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # accelerate casts inside model.forward only, and a method's loss calls the model's parts.
        with self.accelerator.autocast():
            loss, figures = self.method.loss(model, inputs, num_items_in_batch, self.recipe)
        self.report.watch(inputs, figures)
        return loss

    def log(self, logs, start_time=None):
        super().log(logs | self.report.figures() if "loss" in logs else logs, start_time)

    def _get_train_sampler(self, train_dataset=None):
        data = self.train_dataset
        return BatchOrder(
            data.groups(),
            data.lengths(),
            self.args.train_batch_size,
            self.args.seed,
            together=self.recipe.train.per_picture,
            announce=getattr(data, "set_epoch", None),
        )

    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with _written(folder):
            super()._save_checkpoint(model, trial)
            for path in folder.iterdir():
                _flush(path)
            write_text(folder / _COMPLETE, "")
        # Not by the Trainer, which would remove the last whole checkpoint before this one is.
        for old in _checkpoints(folder.parent)[: -self.recipe.train.keep_checkpoints]:
            (old / _COMPLETE).unlink()
            shutil.rmtree(old)


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def data_fingerprint(samples: Sequence[Sample | PreferencePair]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(as_json(sample), ensure_ascii=False).encode())
    return digest.hexdigest()


def require_same_run(out: Path, recipe: Recipe, samples: Sequence[Sample | PreferencePair]) -> None:
    """Write run.json, or raise TrainError when the folder's run has another recipe or other data."""
    identity = {"recipe": recipe.fingerprint(), "data": data_fingerprint(samples)}
    path = out / "run.json"
    if not path.is_file():
        write_text(path, json.dumps(identity | {"samples": len(samples)}, indent=2) + "\n")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key, value in identity.items() if found.get(key) != value]
    if changed:
        raise TrainError(
            f"{out} holds a run with another {' and other '.join(changed)}; it cannot go on with this.",
            hint="Give the run another name or --out, or start it again with --force.",
        )


def tensorboard(folder: Path) -> TrainerCallback | None:
    """Writes the log as TensorBoard events, where that package is installed."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(log_dir=str(folder)))


def quiet() -> None:
    """Silence what transformers and accelerate say about themselves; their warnings about our use stay."""
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)


def _checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / _COMPLETE).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones, which a kill left behind, are removed."""
    whole = _checkpoints(folder)
    for path in set(folder.glob("checkpoint-*")) - set(whole):
        shutil.rmtree(path)
    return whole[-1] if whole else None


def _is_last(checkpoint: Path) -> bool:
    """Whether the run had done its last step there. Resumed from it, the Trainer would take one step too many."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"] >= state["max_steps"]


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """A write that fails says which. safetensors and torch report a full disk as errors of their own, not as OSError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainError(
            f"{path}: cannot be written ({error}).",
            hint="Is the disk full? Make room and run the same command again: it goes on from the last checkpoint.",
        ) from error


def precision_of(recipe: Recipe) -> str:
    """auto: bf16 where the processor multiplies in it, fp16 on older cards, fp32 on other CPUs."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    if device() == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def _arguments(recipe: Recipe, out: Path, precision: str) -> TrainingArguments:
    train = recipe.train
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.accumulation,
        learning_rate=train.learning_rate,
        lr_scheduler_type="constant_with_warmup" if train.schedule == "constant" else train.schedule,
        warmup_steps=train.warmup,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        adam_beta2=0.98,
        max_steps=train.steps or -1,
        num_train_epochs=train.epochs or 1,
        logging_steps=train.log_every,
        logging_nan_inf_filter=False,
        save_steps=train.save_every,
        seed=train.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device() == "cpu",
        disable_tqdm=True,
        activation_checkpointing=train.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        optim="paged_adamw_8bit" if device() == "cuda" and recipe.backbone.quantization == "nf4" else "adamw_torch",
        dataloader_num_workers=train.workers,
        remove_unused_columns=False,
        report_to="none",
        dataloader_pin_memory=device() == "cuda",
    )


def run(
    recipe: Recipe,
    method: Method,
    folder: ModelFolder,
    samples: Sequence[Sample | PreferencePair],
    images: Path | None,
    out: Path,
    *,
    console: Console,
    counts: Mapping[str, Any],
) -> Path:
    """Train and return the folder of the result (``adapter`` or ``model``); its card tells ``counts`` of the data.

    A run that was stopped at any moment goes on from its last complete checkpoint. Raises TrainError when ``out`` holds
    another run, or the loss diverges.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Before the folder is claimed: a recipe whose data are broken can be mended and run again into the same folder.
    dataset = method.dataset(samples, folder, images, recipe)
    require_same_run(out, recipe, samples)
    recipe.dump(out / "recipe.yaml")
    precision = precision_of(recipe)
    torch.manual_seed(recipe.train.seed)
    # A trainable base is kept in 32 bit under autocast; a frozen one in the precision it computes in.
    whole = "full" in (recipe.train.parts.language_model, recipe.train.parts.vision_tower)
    load_as = "fp32" if whole or device() == "cpu" else precision
    model = folder.load(load_as, recipe.backbone.quantization)
    if device() == "cpu":
        # torch's fused attention on CPUs is slow in bf16 and for short sequences.
        model.set_attn_implementation("eager")
    method.attach(model)
    model = place(model, recipe.train, folder.backbone)
    if recipe.train.gradient_checkpointing:
        model.enable_input_require_grads()
    numbers = count(model)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    report = _Report(out / "log.jsonl", console, f"train {recipe.name}")
    collate = method.collate(folder, recipe)
    method.prepare(Start(model, dataset, collate, folder, recipe, precision, out, partial(_bar, console)))
    trainer = _MethodTrainer(
        model=model.train(),
        args=_arguments(recipe, out, precision),
        train_dataset=dataset,
        data_collator=collate,
        method=method,
        recipe=recipe,
        report=report,
    )
    trainer.remove_callback(PrinterCallback)
    if (board := tensorboard(out / "tensorboard")) is not None:
        trainer.add_callback(board)
    checkpoint = last_checkpoint(out / "checkpoints")
    tell = partial(run_report.write, out, recipe, card.sources(samples), counts)
    try:
        if checkpoint is not None and _is_last(checkpoint):
            trainer._load_from_checkpoint(str(checkpoint))
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except TrainError:
        with suppress(OSError):  # the error itself is what has to be told
            tell()
        raise
    finally:
        report.progress.stop()  # also after Ctrl-C: it gives the terminal its cursor back
        transformers_logging.set_verbosity(verbosity)
    method.detach(model)
    result = out / ("adapter" if isinstance(model, PeftModel) else "model")
    with _written(result), new_folder(result, replace=True) as beside:
        if isinstance(model, PeftModel):
            model.peft_config["default"].base_model_name_or_path = recipe.backbone.model
            # peft would ask a hub whether the base's vocabulary has grown; no embedding is trained here.
            model.save_pretrained(beside, save_embedding_layers=False)
        else:
            save_folder(model.to(torch.float16), folder, beside)  # in 16 bits, as models are published
        card.write(beside, recipe, counts, numbers, out / "log.jsonl", samples)
    with _written(out / "report.html"):
        tell()
    return result
