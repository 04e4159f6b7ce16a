"""One training run: transformers' Trainer with our losses, in a run folder that a killed run resumes from.

runs/<name>/
    recipe.yaml      the resolved recipe        run.json    fingerprints of recipe and data, counts
    log.jsonl        loss, rate, speed and memory per logged step, what a method watches, notices of what goes wrong, and
                     where there are experts, how many tokens each of them was given
    report.html      the run on one page; curves/ holds its curves as PNG where matplotlib is installed
    tensorboard/     the same figures as events, where tensorboard is installed
    checkpoints/     to resume from; each is trusted only when its ``complete`` file is there, and its files' digests fit
    adapter/         the result, in peft's own format (or model/, when whole parts were trained without an adapter)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from edgereverie.backbones.base import ModelFolder, device, save_folder
from edgereverie.bundle import new_folder, write_text
from edgereverie.errors import DataError, TrainError
from edgereverie.recipe import Recipe
from edgereverie.records import PreferencePair, Sample
from edgereverie.tuning import card, distributed, run_report
from edgereverie.tuning.batch import keeping
from edgereverie.tuning.events import tensorboard
from edgereverie.tuning.features import Pictures, pictures
from edgereverie.tuning.methods.base import Method, Start
from edgereverie.tuning.order import BatchOrder
from edgereverie.tuning.qlora import checkpoint_layers, count, place
from edgereverie.tuning.run_folder import (
    checkpoints,
    is_last,
    last_checkpoint,
    remove,
    require_same_run,
    seal,
    whole_or_none,
    written,
)
from edgereverie.tuning.watch import Watch

_WATCHED = "watched.json"  # in a checkpoint: what the watch had seen


class _MethodTrainer(Trainer):
    """The Trainer with a method's loss, batches of similar length, and checkpoints that say when they are whole."""

    def __init__(
        self, *args: Any, method: Method, recipe: Recipe, report: Watch, seen: Pictures | None, **keywords: Any
    ) -> None:
        super().__init__(*args, callbacks=[report] if distributed.is_main() else [], **keywords)
        self.method = method
        self.recipe = recipe
        self.report = report
        self.seen = seen
        self.model_accepts_loss_kwargs = True  # our loss divides by the whole step's count by itself

    def _get_num_items_in_batch(self, batch_samples, device):
        """What the whole step's mean is over, in all its micro-batches and on all devices."""
        count = torch.tensor(sum(map(self.method.size, batch_samples)), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # accelerate casts inside model.forward only, and a method's loss calls the model's parts.
        if self.seen is not None:
            inputs = self.seen.filled(model, inputs)
        with self.accelerator.autocast():
            loss, figures = distributed.inside(
                model, lambda inner: self.method.loss(inner, inputs, num_items_in_batch, self.recipe)
            )
        if distributed.is_main():
            self.report.watch(inputs, figures)
        return loss * self.accelerator.num_processes  # gradients are averaged over processes; the count is of them all

    def log(self, logs, start_time=None):
        super().log(logs | self.report.figures() if "loss" in logs else logs, start_time)

    def _get_train_sampler(self, train_dataset=None):
        data = self.train_dataset
        return BatchOrder(
            data.groups(),
            data.lengths(),
            self.args.train_batch_size * self.args.world_size,
            self.args.seed,
            together=self.recipe.train.per_picture,
            announce=getattr(data, "set_epoch", None),
        )

    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        with written(folder), whole_or_none(folder):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process saves its own random state
            if not distributed.is_main():
                return
            write_text(folder / _WATCHED, json.dumps(self.report.memory()) + "\n")
            seal(folder)
        # Not by the Trainer, which would remove the last whole checkpoint before this one is.
        for old in checkpoints(folder.parent)[: -self.recipe.train.keep_checkpoints]:
            remove(old)


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def quiet() -> None:
    """Silence what transformers and accelerate say about themselves; their warnings about our use stay."""
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)


def precision_of(recipe: Recipe) -> str:
    """auto: bf16 where the processor multiplies in it, fp16 on older cards, fp32 on other CPUs."""
    if recipe.train.precision == "fp16" and device() == "cpu":
        raise TrainError("Training in fp16 needs a card.", hint="Set train.precision to auto, bf16 or fp32.")
    if recipe.train.precision != "auto":
        return recipe.train.precision
    if device() == "cuda":
        # Cards before Ampere only emulate bf16; torch would call that supported too.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
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
        ddp_find_unused_parameters=True,  # a batch without a picture leaves the projector out
        optim="paged_adamw_8bit" if device() == "cuda" and recipe.backbone.quantization == "nf4" else "adamw_torch",
        dataloader_num_workers=train.workers,
        remove_unused_columns=False,
        report_to="none",
        dataloader_pin_memory=device() == "cuda",
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """A collate whose errors say which records a lost or damaged picture belongs to."""

    collate: Callable[..., Any]

    def __call__(self, examples: Sequence[Any]) -> Any:
        try:
            return self.collate(examples)
        except OSError as error:
            lost = DataError(f"{error.filename}: the image cannot be read ({error.strerror}).")
            raise self._of(lost, examples) from None
        except DataError as error:
            raise self._of(error, examples) from None

    def _of(self, error: DataError, examples: Sequence[Any]) -> DataError:
        images = {example.id: getattr(example, "chosen", example).image for example in examples}
        about = [name for name, image in images.items() if image is not None and str(image) in str(error)]
        hint = f"{error.hint or 'Put the image back.'} Then run the same command again: it goes on from the last checkpoint."
        return DataError(f"Record {', '.join(map(repr, about))}: {error}" if about else str(error), hint=hint)


def _ready(collate: Callable[..., Any], seen: Pictures | None, model: torch.nn.Module) -> Callable[..., Any]:
    """Batches for what is computed before the first step: their pictures seen already."""
    return collate if seen is None else lambda examples: seen.filled(model, collate(examples))


def _train_from(checkpoint: Path | None, trainer: _MethodTrainer) -> None:
    """Take the steps behind a checkpoint, or all of them."""
    try:
        if checkpoint is not None:
            trainer.report.remember(json.loads((checkpoint / _WATCHED).read_text(encoding="utf-8")))
        if checkpoint is not None and is_last(checkpoint):
            trainer._load_from_checkpoint(str(checkpoint))
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except UnpicklingError:
        raise TrainError(
            f"{checkpoint}: one of its files holds more than weights and plain values, and was not loaded.",
            hint="This run did not write that. Delete the checkpoint: the run goes on from the one before.",
        ) from None


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
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train and return the folder of the result (``adapter`` or ``model``); its card tells ``counts`` of the data.

    A run that was stopped at any moment goes on from its last complete checkpoint. Raises TrainError when ``out`` holds
    another run, or the loss diverges.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Before the folder is claimed: a recipe whose data are broken can be mended and run again into the same folder.
    dataset = method.dataset(samples, folder, images, recipe)
    with distributed.main_first():
        require_same_run(out, recipe, samples)
        if distributed.is_main():
            with written(out / "recipe.yaml"):
                recipe.dump(out / "recipe.yaml")
    precision = precision_of(recipe)
    torch.manual_seed(recipe.train.seed)
    # A trainable base is kept in 32 bit under autocast; a frozen one in the precision it computes in.
    whole = "full" in (recipe.train.parts.language_model, recipe.train.parts.vision_tower)
    load_as = "fp32" if whole or device() == "cpu" else precision
    model = folder.load(load_as, recipe.backbone.quantization)
    method.attach(model)
    model = place(model, recipe.train, folder.backbone)
    for parameter in model.parameters():
        if parameter.requires_grad:  # Adam's small steps are lost in 16 bits, and fp16 gradients cannot be unscaled
            parameter.data = parameter.data.float()
    if recipe.train.gradient_checkpointing:
        checkpoint_layers(model)
    numbers = count(model)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    report = Watch(out / "log.jsonl", console, f"train {recipe.name}")
    seen = pictures(model, folder.image, recipe.train, precision)
    collate = _Named(keeping(method.collate(folder, recipe), seen))
    with distributed.main_first():
        method.prepare(
            Start(model, dataset, _ready(collate, seen, model), folder, recipe, precision, out, partial(_bar, console))
        )
    trainer = _MethodTrainer(
        model=model.train(),
        args=_arguments(recipe, out, precision),
        train_dataset=dataset,
        data_collator=collate,
        method=method,
        recipe=recipe,
        report=report,
        seen=seen,
    )
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.remove_callback(PrinterCallback)
    if distributed.is_main() and (board := tensorboard(out / "tensorboard")) is not None:
        trainer.add_callback(board)
    with distributed.main_first():
        checkpoint = last_checkpoint(out / "checkpoints", lambda told: console.print(f"  {told}"))
    tell = partial(run_report.write, out, recipe, card.sources(samples), counts)
    try:
        _train_from(checkpoint, trainer)
    except TrainError:
        with suppress(OSError):  # the error itself is what has to be told
            if distributed.is_main():
                tell()
        raise
    finally:
        report.progress.stop()  # also after Ctrl-C: it gives the terminal its cursor back
        transformers_logging.set_verbosity(verbosity)
    method.detach(model)
    result = out / ("adapter" if isinstance(model, PeftModel) else "model")
    if not distributed.is_main():
        return result
    # The result comes last: a run that has one is finished, and is not gone into again.
    with written(out / "report.html"):
        tell()
    with written(result), new_folder(result, replace=True) as beside:
        if isinstance(model, PeftModel):
            model.peft_config["default"].base_model_name_or_path = recipe.backbone.model
            # peft would ask a hub whether the base's vocabulary has grown; no embedding is trained here.
            model.save_pretrained(beside, save_embedding_layers=False)
        else:
            save_folder(model.to(torch.float16), folder, beside)  # in 16 bits, as models are published
        card.write(beside, recipe, counts, numbers, out / "log.jsonl", samples)
    return result
