"""``edgereverie calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgereverie.cli.choices import Backend
from edgereverie.cli.console import done


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    data: Annotated[
        str,
        typer.Option(help="scenes, annotations (COCO, scenes.jsonl), or JSONL of objects or yes/no questions."),
    ],
    pictures: Annotated[
        Path | None, typer.Option(help="Where image paths start. Default: images/ beside the data.", show_default=False)
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Pictures to ask about. Default: all; of scenes, 600.")
    ] = None,
    alpha: Annotated[float, typer.Option(min=0.001, max=0.5, help="The error rate to promise.")] = 0.1,
    delta: Annotated[float, typer.Option(min=0.001, max=0.5, help="How often the promise may fail.")] = 0.1,
    guard: Annotated[
        str, typer.Option(help="The guard that will decide how answers are generated, such as contrast.")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Of the drawn pictures, the splits and the questions.")] = 0,
    backend: Backend = "auto",
    work: Annotated[
        Path | None,
        typer.Option(help="Where answers are kept as they come. Default: beside the bundle.", show_default=False),
    ] = None,
) -> None:
    """Fit how sure a bundle may be of its claims, choose thresholds that promise an error rate, and store both in it.

    Pictures are split three ways: to fit, to choose, to report. A stopped run goes on. What is promised stands in the
    answers of abstain and verify, and holds for this bundle on this backend, for pictures and questions like these.

    Example: edgereverie calibrate bundles/starter-gguf-q8-0 --data scenes --images 600
    """
    from edgereverie import stages

    found = stages.calibrate(bundle, data, pictures=pictures, images=images, alpha=alpha, delta=delta, guard=guard,
                             seed=seed, backend=backend, work=work)  # fmt: skip
    stages.calibration_summary(found)
    done(bundle / "bundle.json", f"edgereverie ask {bundle} --guard abstain --image PICTURE 'Is there a dog?'")
