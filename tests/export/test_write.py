from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import Field

from edgereverie.bundle import Bundle
from edgereverie.errors import BundleError, ExportError, RecipeError
from edgereverie.export import gguf_file
from edgereverie.export.base import Profile, find_target, load_profile, profiles
from edgereverie.export.targets.gguf import GgufSettings
from edgereverie.export.weights import Weights
from edgereverie.export.write import export_bundle
from edgereverie.registry import TARGETS

CHECKOUT = Path(__file__).parents[2]


def test_every_shipped_profile_is_one_that_its_target_can_write(tiny):
    assert {"gguf-f16", "gguf-q8-0", "gguf-q4-k-m", "onnx-fp32", "onnx-int8", "onnx-int4"} <= set(profiles())
    for name in profiles():
        profile = load_profile(name)
        assert profile.name == name and profile.description
        assert profile.quantization in find_target(tiny, profile).quantizations


def test_profile_from_a_file_and_its_faults(tmp_path):
    path = tmp_path / "mine.yaml"
    text = "name: mine\ntarget: gguf\nquantization: Q6_K\ndescription: six bits\nparity:\n  min_top1: 0.9\n"
    path.write_text(text)
    assert load_profile(path).parity.min_top1 == 0.9 and load_profile(str(path)).parity.max_logit_diff is None
    path.write_text(text.replace("min_top1: 0.9", "min_top2: 0.9"))
    with pytest.raises(RecipeError, match=r"mine\.yaml:6: parity\.min_top2: unknown key\. Did you mean 'min_top1'"):
        load_profile(path)
    with pytest.raises(RecipeError, match="Unknown export profile 'gguf-q8'") as caught:
        load_profile("gguf-q8")
    assert "Did you mean 'gguf-q8-0'" in caught.value.hint


class Taking(GgufSettings):
    """What a target's profiles may say, for the tests."""

    block: int = Field(default=32, ge=1)
    keep: tuple[str, ...] = ()


def test_settings_are_the_targets_own_and_their_faults_have_lines(tiny, tmp_path, monkeypatch):
    target = TARGETS.get("gguf")
    monkeypatch.setattr(type(target), "settings", Taking)
    path = tmp_path / "mine.yaml"
    text = (
        "name: mine\ntarget: gguf\nquantization: F16\ndescription: x\nsettings:\n  block: 64\n  keep: [a, b]\n"
        "prompts: 100\nparity: {min_top1: 0.9}\n"
    )
    path.write_text(text)
    profile = load_profile(path)
    assert type(profile) is Profile and profile.prompts == 100
    assert profile.settings == {"block": 64, "keep": ("a", "b")} and target.settings(**profile.settings).block == 64
    path.write_text(text.replace("block: 64", "blok: 64").replace("[a, b]", "a").replace("prompts: 100", "prompts: 0"))
    with pytest.raises(RecipeError) as caught:
        load_profile(path)
    assert str(caught.value).splitlines() == [
        f"{path}:6: settings.blok: unknown key. Did you mean 'block'?",
        f"{path}:7: settings.keep: should be a list (got 'a').",
        f"{path}:8: prompts: should be greater than or equal to 1 (got 0).",
    ]
    assert load_profile("gguf-f16").settings == {}
    wrong = profile.model_copy(update={"settings": {"block": 0}})
    with pytest.raises(ExportError, match=r"Profile 'mine': settings\.block: .*greater than or equal to 1"):
        find_target(tiny, wrong)
    bundle = export_bundle(tiny, profile, tmp_path / "out", made_from={})
    assert bundle.made_from["settings"] == {"block": 64, "keep": ["a", "b"], "importance": None, "mmproj": "f16"}


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"target": "gguff"}, "unknown target 'gguff'", "Did you mean 'gguf'"),
        ({"quantization": "q8_0"}, "no quantization 'q8_0'", "Did you mean 'Q8_0'"),
    ],
)
def test_refused_before_any_weight_is_read(tiny, tmp_path, monkeypatch, change, message, hint):
    monkeypatch.setattr(Weights, "__init__", lambda *_: pytest.fail("weights were read"))
    profile = load_profile("gguf-q4-k-m").model_copy(update=change)
    with pytest.raises(ExportError, match=message) as caught:
        export_bundle(tiny, profile, tmp_path / "out", made_from={})
    assert hint in caught.value.hint
    narrow = replace(tiny, backbone=replace(tiny.backbone, exports={"phi3": ("onnx",)}))
    with pytest.raises(ExportError, match="cannot leave as 'gguf'"):
        export_bundle(narrow, load_profile("gguf-f16"), tmp_path / "out", made_from={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("profile", ["gguf-q4-k-m", "onnx-int8"])
def test_exporting_twice_gives_the_same_bytes_and_says_nothing(profile, bundles, tiny, tmp_path, capfd):
    first = bundles(profile)
    capfd.readouterr()
    again = export_bundle(tiny, load_profile(profile), tmp_path / "elsewhere", made_from={"model": "tiny"})
    assert capfd.readouterr() == ("", "")
    assert again.files == first.files
    assert (again.folder / "bundle.json").read_bytes() == (first.folder / "bundle.json").read_bytes()


def test_the_verdict_joins_the_parity_and_leaves_the_fingerprint_alone(bundles, tiny, tmp_path):
    before = bundles("gguf-q8-0")
    judged = []

    def judge(bundle: Bundle) -> dict[str, object]:
        judged.append(bundle.folder.name)
        bundle.check(hashes=False)
        with pytest.raises(BundleError, match="comparison with the model was not finished"):
            bundle.check()
        return {"passed": True, "top1": 0.99}

    after = export_bundle(
        tiny, load_profile("gguf-q8-0"), tmp_path / "judged", made_from={"model": "tiny"}, judge=judge
    )
    assert judged == [".judged.part"], "it is judged before it has its name"
    assert after == Bundle.load(tmp_path / "judged")
    assert after.parity == dict(before.parity) | {"passed": True, "top1": 0.99}
    assert after.fingerprint() == before.fingerprint()


def test_a_verdict_that_raises_leaves_no_bundle(tiny, tmp_path):
    def judge(bundle: Bundle) -> dict[str, object]:
        raise ExportError("differs")

    with pytest.raises(ExportError, match="differs"):
        export_bundle(tiny, load_profile("gguf-f16"), tmp_path / "out", made_from={}, judge=judge)
    assert os.listdir(tmp_path) == []


def test_an_existing_bundle_is_kept_unless_forced(bundles, tiny):
    folder = bundles("gguf-f16").folder
    with pytest.raises(BundleError, match="exists already"):
        export_bundle(tiny, load_profile("gguf-f16"), folder, made_from={})
    Bundle.load(folder).check()


@pytest.mark.parametrize("step", ["tensor", "mmproj", "manifest"])
def test_a_full_disk_is_an_export_error_and_leaves_nothing(step, tiny, tmp_path, monkeypatch):
    from edgereverie.export import gguf_file

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real, written = gguf_file._write_tensor, []

    def run_out(*values):
        written.append(1)
        if len(written) == (9 if step == "tensor" else 60):
            raise full
        return real(*values)

    if step == "manifest":
        monkeypatch.setattr(Bundle, "write", lambda _: (_ for _ in ()).throw(full))
    else:
        monkeypatch.setattr(gguf_file, "_write_tensor", run_out)
    with pytest.raises(ExportError, match="the disk is full; nothing was left behind"):
        export_bundle(tiny, load_profile("gguf-f16"), tmp_path / "out", made_from={})
    assert not list(tmp_path.iterdir())


def test_a_forced_export_that_fails_keeps_the_old_bundle(bundles, tiny, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(bundles("gguf-f16").folder, tmp_path / "out")
    monkeypatch.setattr(gguf_file, "_encoded", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(ExportError, match="disk is full"):
        export_bundle(tiny, load_profile("gguf-f16"), tmp_path / "out", made_from={}, force=True)
    Bundle.load(tmp_path / "out").check()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["writing model.gguf", "checking"])
def test_a_killed_export_leaves_no_bundle_and_the_next_one_succeeds(moment, tiny, tmp_path):
    out, reached = tmp_path / "out", tmp_path / "reached"
    code = f"""
import time, pathlib
from edgereverie.backbones.base import open_folder
from edgereverie.export.base import load_profile
from edgereverie.export.write import export_bundle
def progress(step, share):
    if step == {moment!r} and (share > 0.4 or 'model' not in step):
        pathlib.Path({str(reached)!r}).touch()
        time.sleep(60)
folder, out = open_folder(pathlib.Path({str(tiny.path)!r})), pathlib.Path({str(out)!r})
export_bundle(folder, load_profile('gguf-f16'), out, made_from={{}}, progress=progress)
"""
    paths = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    try:
        deadline = time.monotonic() + 200
        while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert reached.exists(), "the export did not get so far"
    assert not out.exists() and (tmp_path / ".out.part").is_dir()
    if moment == "checking":
        export_bundle(tiny, load_profile("gguf-f16"), out, made_from={})
        Bundle.load(out).check()
        assert not (tmp_path / ".out.part").exists()


def test_profile_is_frozen_and_strict():
    with pytest.raises(ValueError, match="min_top1"):
        Profile(name="x", target="gguf", quantization="F16", description="", parity={"min_top1": 1.5})
