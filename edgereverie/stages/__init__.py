"""The stages, one function each: the only place where data, tuning, export, runtime and evaluation meet.

Each reads a recipe section or a folder and leaves a folder that the next one accepts; the command line adds nothing but
parsing and printing. A stage's module is loaded when the stage is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Asked": "_answerers",
    "JudgeAt": "_judges",
    "Named": "answering",
    "TeacherAt": "generating",
    "artefact": "_answerers",
    "batch": "batching",
    "bench_run": "running",
    "bench_train": "benching",
    "bytes_passing": "_console",
    "calibrate": "calibrating",
    "calibration_summary": "calibrating:summary",
    "check_data": "curating",
    "compare": "scoring",
    "console": "_console",
    "convert_data": "curating",
    "data_statistics": "curating",
    "demo": "demonstration",
    "draw_scenes": "data",
    "evaluate": "evaluation",
    "export": "exporting",
    "export_adapter": "adapters",
    "generate": "generating",
    "generate_by_rules": "ruling",
    "get_data": "curating",
    "is_offline": "curating",
    "load": "answering",
    "merge": "tuning",
    "mix_data": "curating",
    "model_folder": "backbones",
    "models": "backbones",
    "open_model": "backbones",
    "pictures": "answering",
    "plan": "planning",
    "preview_data": "curating",
    "run_benchmarks": "evaluation",
    "score": "scoring",
    "serve": "serving",
    "train": "tuning",
    "unpack_data": "curating",
    "upcycle": "backbones",
    "verdict": "exporting",
    "versions": "evaluation",
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, other_name = _WHERE[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), other_name or name)
