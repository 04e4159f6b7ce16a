"""The doctor finds what is there and what is not, says how to mend it, and never fails itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgereverie import doctor
from edgereverie.doctor import Finding, examine, transformers_fits, version_of
from edgereverie.errors import BundleError
from edgereverie.registry import BACKENDS


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that exactly these distributions are installed."""

    def only(**versions: str) -> None:
        known = {name.replace("_", "-"): version for name, version in versions.items()}

        def version(name: str) -> str:
            if name not in known:
                raise metadata.PackageNotFoundError(name)
            return known[name]

        monkeypatch.setattr(doctor.metadata, "version", version)
        monkeypatch.setattr(doctor, "find_spec", lambda module: object())

    return only


def found(subject: str) -> Finding:
    return next(finding for finding in examine() if finding.subject == subject)


def test_every_finding_that_is_not_ok_has_advice() -> None:
    findings = examine()
    assert {finding.state for finding in findings} <= {"ok", "missing", "problem"}
    assert all(finding.advice for finding in findings if finding.state != "ok"), findings
    subjects = [finding.subject for finding in findings]
    assert len(set(subjects)) == len(subjects)
    assert {"edgereverie", "memory", "NVIDIA GPU", "backend hf", "backend llamacpp", "backend onnxrt"} <= set(subjects)


@pytest.mark.parametrize("backend", ["llamacpp", "onnxrt"])
def test_a_backend_says_what_it_computes_on(backend: str) -> None:
    finding = next(one for one in doctor._backends() if one.subject == f"backend {backend}")
    if finding.state != "ok":
        pytest.skip(f"the {backend} backend is not installed")
    told = BACKENDS.get(backend).lacks_cuda()
    assert finding.detail.endswith(f"; computes on the CPU, as {told}" if told else "; computes on CUDA")


def test_an_empty_machine_is_told_what_to_install(installed: Callable[..., None]) -> None:
    installed()
    assert found("backend hf") == Finding(
        "backend hf", "missing", "needs torch, transformers", "pip install 'edgereverie[train]'"
    )
    assert found("backend llamacpp").advice == "pip install 'edgereverie[gguf]'"
    assert found("backend onnxrt").advice == "pip install 'edgereverie[onnx]'"
    assert found("bitsandbytes").state == "missing"


def test_the_gpu_build_of_onnxruntime_counts(installed: Callable[..., None]) -> None:
    installed(onnxruntime_gpu="1.23.0")
    assert version_of("onnxruntime") == "1.23.0"
    assert found("backend onnxrt").state == "ok"


@pytest.mark.parametrize(("version", "state"), [("5.19.9", "problem"), ("5.20.0", "ok"), ("6.0.0", "problem")])
def test_transformers_outside_its_range_is_a_problem(installed: Callable[..., None], version: str, state: str) -> None:
    installed(transformers=version)
    assert found("transformers").state == state
    assert transformers_fits(version) == (state == "ok")


def test_a_package_whose_module_is_gone_is_a_problem(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(gguf="0.19.0")
    monkeypatch.setattr(doctor, "find_spec", lambda module: None)
    assert found("gguf").state == "problem"
    assert "--force-reinstall gguf" in found("gguf").advice


def test_a_card_without_torch_is_seen_by_nvidia_smi(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed()
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA T4, 15360 MiB'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "NVIDIA T4, 15360 MiB" in found("NVIDIA GPU").detail
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML' >&2\nexit 9\n")
    assert found("NVIDIA GPU").state == "missing"


def test_the_hub_is_asked_only_when_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def connect(address: tuple[str, int], timeout: float) -> Any:
        asked.append((address, timeout))
        raise OSError("no route to host")

    monkeypatch.setattr(doctor.socket, "create_connection", connect)
    assert "HF_HUB_OFFLINE is set" in found("huggingface.co").detail and asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "no route to host" in found("huggingface.co").detail
    assert asked[0][0] == ("huggingface.co", 443) and asked[0][1] <= 5


@pytest.fixture
def llama_cpp() -> None:
    """Looked for and not imported: what it opens for itself it never closes."""
    if find_spec("llama_cpp") is None or find_spec("gguf") is None:
        pytest.skip("needs llama-cpp-python and gguf")


def test_pictures_in_llama_cpp_are_tried_without_a_bundle(llama_cpp: None) -> None:
    """A llama.cpp that is mended makes this test fail: rejoice, and ask for ok."""
    finding = found(doctor._PICTURES)
    assert finding.state == "problem" and "encodes wrongly (cosine 0." in finding.detail
    assert "other tools that use this llama.cpp see wrong pictures" in finding.detail
    assert "vision.onnx" in finding.advice


def test_a_bundle_is_looked_at_with_its_own_probe(llama_cpp: None, tmp_path: Path) -> None:
    from edgereverie.export.clip_sample import write_sample

    write_sample(tmp_path).write()
    findings = {finding.subject: finding for finding in examine(tmp_path)}
    assert "mmproj.gguf" not in findings["bundle"].detail
    assert "encodes wrongly" in findings[doctor._PICTURES].detail
    mmproj = tmp_path / "mmproj.gguf"
    mmproj.write_bytes(mmproj.read_bytes()[:-5000])
    findings = {finding.subject: finding for finding in examine(tmp_path)}
    assert findings["bundle"].state == "problem" and "mmproj.gguf" in findings["bundle"].detail
    assert findings[doctor._PICTURES].state == "problem" and "cannot" in findings[doctor._PICTURES].detail
    with pytest.raises(BundleError, match="not a bundle"):
        examine(tmp_path / "nothing")


def test_a_crash_in_native_code_is_a_finding(llama_cpp: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert found(doctor._PICTURES).state == "problem" and "status -11" in found(doctor._PICTURES).detail


def test_a_mended_llama_cpp_is_told_so(llama_cpp: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgereverie.runtime.mtmd import ProbeResult

    monkeypatch.setattr(doctor, "_probe", lambda bundle: ProbeResult(0.9999, 0.999, 16, 16))
    assert found(doctor._PICTURES).state == "ok" and "as the model was trained" in found(doctor._PICTURES).detail


def test_the_command_prints_json_and_always_ends_well() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "edgereverie", "doctor", "--json"],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert set(findings[0]) == {"subject", "state", "detail", "advice"}
