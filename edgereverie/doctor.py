"""What this machine can do: every finding has a state, and advice where something can be done.

Nothing heavy is imported to find out: versions come from the packages' metadata, the GPU from nvidia-smi where torch is
absent. Only whether CUDA works is a question that torch alone can answer.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgereverie import __version__
from edgereverie.bundle import Bundle
from edgereverie.errors import BackendError, BundleError
from edgereverie.shipped import shipped_recipes

if TYPE_CHECKING:
    from edgereverie.runtime.mtmd import ProbeResult

HUB = ("huggingface.co", 443)
_HUB_SECONDS = 3.0
_PROBE_SECONDS = 300.0
_PICTURES = "pictures in llama.cpp"
_TRANSFORMERS = ((5, 20), (6, 0))  # lowest that works, first that does not: as in pyproject.toml

# Distribution name, module it brings, extra that installs it, and what it is for.
_PACKAGES = (
    ("torch", "torch", "train", "tuning, merging, exporting, the hf backend"),
    ("transformers", "transformers", "train", "tuning, merging, exporting, the hf backend"),
    ("peft", "peft", "train", "adapters"),
    ("bitsandbytes", "bitsandbytes", "train", "4-bit base weights (backbone.quantization: nf4)"),
    ("accelerate", "accelerate", "train", "tuning"),
    ("llama-cpp-python", "llama_cpp", "gguf", "running GGUF bundles, K-quants"),
    ("gguf", "gguf", "gguf", "reading and writing GGUF"),
    ("onnxruntime", "onnxruntime", "onnx", "running ONNX bundles, and the vision tower of GGUF bundles"),
    ("onnx", "onnx", "export", "exporting ONNX"),
    ("onnx-ir", "onnx_ir", "export", "exporting ONNX in 4 and 8 bits"),
)
# Backend, the distributions it runs on, the extra that installs them.
_BACKENDS = (
    ("hf", ("torch", "transformers"), "train"),
    ("llamacpp", ("llama-cpp-python", "gguf", "onnxruntime"), "gguf"),
    ("onnxrt", ("onnxruntime",), "onnx"),
)
_SAME = {"onnxruntime": ("onnxruntime-gpu",)}  # another distribution that brings the same module


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. advice: the command or step that mends it, empty when there is nothing to do."""

    subject: str
    state: Literal["ok", "missing", "problem"]
    detail: str
    advice: str = ""


def examine(bundle: Path | None = None) -> list[Finding]:
    """Everything, in the order in which a person would ask: machine, packages, backends, network.

    bundle: one whose files and pictures are looked at too. Raises BundleError for a folder that is none.
    """
    looked_at = [] if bundle is None else [_files(Bundle.load(bundle))]
    pictures = _pictures(None if bundle is None else Bundle.load(bundle))
    return [*_machine(), _gpu(), *_packages(), *_backends(), *pictures, *looked_at, _recipes(), _hub()]


def version_of(distribution: str) -> str | None:
    """The installed version, or None; another distribution of the same module counts."""
    for name in (distribution, *_SAME.get(distribution, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _machine() -> Iterator[Finding]:
    python = platform.python_version()
    fits = sys.version_info >= (3, 11)
    yield Finding("edgereverie", "ok", f"{__version__}, Python {python}, {platform.system()} {platform.machine()}")
    if not fits:
        yield Finding("Python", "problem", python, "Install Python 3.11 or later.")
    yield Finding("processor", "ok", f"{_cores()} of {os.cpu_count()} cores usable")
    memory = _memory()
    yield Finding(
        "memory",
        "ok",
        f"{memory[0] / 2**30:.1f} GiB of {memory[1] / 2**30:.1f} GiB free" if memory else "unknown on this system",
    )
    free = shutil.disk_usage(Path.cwd()).free
    enough = free > 2 * 2**30
    yield Finding(
        "disk",
        "ok" if enough else "problem",
        f"{free / 2**30:.1f} GiB free here",
        "" if enough else "A run of a small model writes a few GiB; make room or work elsewhere.",
    )


def _cores() -> int:
    """Cores that this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _memory() -> tuple[int, int] | None:
    """Bytes available and in total, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
        return kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gpu() -> Finding:
    cards = _nvidia_cards()
    if version_of("torch") is None:
        if not cards:
            return Finding("NVIDIA GPU", "missing", "none found", "Everything small runs on the CPU.")
        return Finding(
            "NVIDIA GPU",
            "ok",
            f"{cards}; torch is not installed, so it is not used yet",
            "pip install 'edgereverie[train]'",
        )
    try:
        import torch

        if torch.cuda.is_available():
            each = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
            return Finding(
                "NVIDIA GPU", "ok", "; ".join(f"{card.name}, {card.total_memory / 2**30:.0f} GiB" for card in each)
            )
        build = torch.version.cuda
    except Exception as error:  # a broken installation fails in many ways, and a doctor reports every one of them
        return Finding(
            "NVIDIA GPU", "problem", f"torch cannot be imported: {error}", "pip install --force-reinstall torch"
        )
    if not cards:
        return Finding("NVIDIA GPU", "missing", "none found", "Everything small runs on the CPU.")
    why = (
        "the installed torch is a CPU build" if build is None else f"torch was built for CUDA {build} and cannot use it"
    )
    return Finding(
        "NVIDIA GPU",
        "problem",
        f"{cards}, but {why}",
        "Install the torch build for your driver: https://pytorch.org/get-started/locally",
    )


def _nvidia_cards() -> str:
    """Names and memory as nvidia-smi tells them; empty when there is no card or no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def _packages() -> Iterator[Finding]:
    for distribution, module, extra, purpose in _PACKAGES:
        version = version_of(distribution)
        if version is None:
            yield Finding(distribution, "missing", f"for {purpose}", f"pip install 'edgereverie[{extra}]'")
        elif find_spec(module) is None:
            yield Finding(
                distribution,
                "problem",
                f"{version}, but its module {module!r} cannot be found",
                f"pip install --force-reinstall {distribution}",
            )
        elif distribution == "transformers" and not transformers_fits(version):
            yield Finding(
                distribution,
                "problem",
                f"{version}; 5.20 or later, below 6, is needed",
                "pip install 'transformers>=5.20,<6'",
            )
        else:
            yield Finding(distribution, "ok", version)


def transformers_fits(version: str) -> bool:
    """Whether this version of transformers is one that the package works with.

    >>> [transformers_fits(v) for v in ("4.57.1", "5.19.0", "5.20.0", "5.23.0.dev0", "6.0.0")]
    [False, False, True, True, False]
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    lowest, beyond = _TRANSFORMERS
    return numbers is not None and lowest <= (int(numbers[1]), int(numbers[2])) < beyond


def _backends() -> Iterator[Finding]:
    for backend, needs, extra in _BACKENDS:
        absent = [name for name in needs if version_of(name) is None]
        if absent:
            yield Finding(
                f"backend {backend}", "missing", f"needs {', '.join(absent)}", f"pip install 'edgereverie[{extra}]'"
            )
        else:
            told = ", ".join(f"{name} {version_of(name)}" for name in needs)
            yield Finding(f"backend {backend}", "ok", told + _computes_on(backend))


def _computes_on(backend: str) -> str:
    """Asked in a process of its own: a CUDA that is half there may end it. For torch the GPU's own finding tells."""
    if backend == "hf":
        return ""
    ask = f"from edgereverie.registry import BACKENDS; print(BACKENDS.get({backend!r}).lacks_cuda())"
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=_PROBE_SECONDS,
                              check=True, env=os.environ | {"PYTHONPATH": paths})  # fmt: skip
    except subprocess.SubprocessError:
        return ""
    why = done.stdout.strip()
    return f"; computes on the CPU, as {why}" if why else "; computes on CUDA"


def _files(bundle: Bundle) -> Finding:
    if faults := bundle.faults():
        return Finding("bundle", "problem", " ".join(faults), "Copy it again from where it came, or export it again.")
    return Finding("bundle", "ok", f"{bundle.name}: {len(bundle.files)} files as the manifest says")


def _pictures(bundle: Bundle | None) -> Iterator[Finding]:
    """Whether the installed llama.cpp encodes pictures as models are trained: the bundle's, or a CLIP made on the spot."""
    if any(version_of(name) is None for name in ("llama-cpp-python", "gguf")):
        return
    if bundle is not None and not {"mmproj", "probe_image", "probe_features"} <= set(bundle.files):
        return
    try:
        found = _probe(bundle)
    except (BundleError, BackendError) as error:
        yield Finding(_PICTURES, "problem", str(error), error.hint or "")
        return
    if found.passed:
        yield Finding(_PICTURES, "ok", f"llama.cpp {found.told()}")
        return
    yield Finding(
        _PICTURES,
        "problem",
        f"llama.cpp {found.told()}: other tools that use this llama.cpp see wrong pictures",
        "Nothing to do for edgereverie, which feeds llama.cpp from the bundle's vision.onnx. See docs/llama-cpp-clip.md.",
    )


def _probe(bundle: Bundle | None) -> ProbeResult:
    """In a process of its own: a fault in native code is then a finding and not the doctor's end."""
    from edgereverie.export.clip_sample import write_sample
    from edgereverie.runtime.mtmd import ProbeResult

    with tempfile.TemporaryDirectory() as made:
        if bundle is None:
            bundle = write_sample(Path(made))
            bundle.write()
        command = [sys.executable, "-m", "edgereverie.runtime.mtmd", str(bundle.folder)]
        paths = os.pathsep.join(path for path in sys.path if path)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False,
                                  env=os.environ | {"PYTHONPATH": paths})  # fmt: skip
        except subprocess.TimeoutExpired:
            raise BackendError(f"llama.cpp did not encode the probe within {_PROBE_SECONDS:.0f} seconds.") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise BackendError(f"llama.cpp cannot be tried with a picture (status {done.returncode}: {last}).",
                           hint="pip install --force-reinstall llama-cpp-python")  # fmt: skip
    return ProbeResult(**json.loads(done.stdout))


def _recipes() -> Finding:
    names = shipped_recipes()
    if names:
        return Finding("recipes", "ok", f"{len(names)} shipped")
    return Finding("recipes", "problem", "none found beside the package", "pip install --force-reinstall edgereverie")


def _hub() -> Finding:
    """Whether models can be fetched. HF_HUB_OFFLINE is respected: then nothing is asked."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return Finding(
            "huggingface.co",
            "missing",
            "HF_HUB_OFFLINE is set, so it is not asked",
            "Models in folders and the shipped starter need no network.",
        )
    try:
        socket.create_connection(HUB, timeout=_HUB_SECONDS).close()
    except OSError as error:
        return Finding(
            "huggingface.co",
            "missing",
            f"does not answer ({error})",
            "Models in folders and the shipped starter need no network.",
        )
    return Finding("huggingface.co", "ok", "answers")
