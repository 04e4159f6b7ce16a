"""The stages, one function each: the only place where data, tuning, export, runtime and evaluation meet.

Each reads a recipe section or a folder and leaves a folder that the next one accepts; the command line adds nothing but
parsing and printing.
"""

from edgereverie.stages._console import bytes_passing, console
from edgereverie.stages.adapters import export_adapter
from edgereverie.stages.backbones import model_folder, models, open_model, upcycle
from edgereverie.stages.benching import bench_train
from edgereverie.stages.calibrating import calibrate
from edgereverie.stages.calibrating import summary as calibration_summary
from edgereverie.stages.curating import (
    check_data,
    convert_data,
    data_statistics,
    get_data,
    is_offline,
    mix_data,
    preview_data,
)
from edgereverie.stages.data import draw_scenes
from edgereverie.stages.demonstration import demo
from edgereverie.stages.evaluation import artefact, evaluate, exhibits, run_benchmarks, versions
from edgereverie.stages.exporting import export, verdict
from edgereverie.stages.generating import TeacherAt, generate
from edgereverie.stages.planning import plan
from edgereverie.stages.ruling import generate_by_rules
from edgereverie.stages.running import bench_run
from edgereverie.stages.tuning import merge, train

__all__ = [
    "TeacherAt",
    "artefact",
    "bench_run",
    "bench_train",
    "bytes_passing",
    "calibrate",
    "calibration_summary",
    "check_data",
    "console",
    "convert_data",
    "data_statistics",
    "demo",
    "draw_scenes",
    "evaluate",
    "exhibits",
    "export",
    "export_adapter",
    "generate",
    "generate_by_rules",
    "get_data",
    "is_offline",
    "merge",
    "mix_data",
    "model_folder",
    "models",
    "open_model",
    "plan",
    "preview_data",
    "run_benchmarks",
    "train",
    "upcycle",
    "verdict",
    "versions",
]
