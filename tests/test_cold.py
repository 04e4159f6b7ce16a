"""A cold start is cheap: what a person sees first loads no machine-learning package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "onnxruntime", "onnx", "llama_cpp", "gguf", "matplotlib")


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that finds this checkout."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=120
    )


def test_importing_and_every_help_load_nothing_heavy() -> None:
    code = f"""
import contextlib, io, json, sys
import edgereverie, edgereverie.recipe, edgereverie.bundle, edgereverie.chat, edgereverie.image
from edgereverie.cli.app import app, main

def verbs(app, before):
    yield before, True
    for command in app.registered_commands:
        yield [*before, command.name or command.callback.__name__.replace("_", "-")], False
    for group in app.registered_groups:
        yield from verbs(group.typer_instance, [*before, group.name])

found = list(verbs(app, []))
for verb, is_group in found:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            main([*verb, "--help"])
        except SystemExit as leaving:
            assert leaving.code == 0, verb
    assert "Usage: edgereverie " + " ".join(verb) in text.getvalue(), (verb, text.getvalue())
    assert is_group or "Example: edgereverie " + " ".join(verb) in text.getvalue(), verb
named = [" ".join(verb) for verb, _ in found]
assert len(set(named)) == len(named) > 30 and {{"ask", "chat", "batch", "data get", "bundle check"}} <= set(named), named
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_models_are_listed_without_loading_anything_heavy() -> None:
    code = f"""
import json, sys
from edgereverie.cli.app import main
try:
    main(["models"])
except SystemExit as leaving:
    assert leaving.code == 0
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_listing_what_is_registered_imports_none_of_it() -> None:
    code = f"""
import json, sys
from edgereverie import registry
names = {{r.kind: r.names() for r in vars(registry).values() if isinstance(r, registry.Registry)}}
assert len(names) == 8 and "reflective" in names["tuning method"] and "hf" in names["runtime backend"], names
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_every_runtime_module_but_the_torch_backend_imports_without_torch() -> None:
    code = """
import pkgutil, sys
from importlib import import_module
for name in ("torch", "transformers", "peft", "bitsandbytes"):
    sys.modules[name] = None
import edgereverie.runtime
found = [m.name for m in pkgutil.walk_packages(edgereverie.runtime.__path__, "edgereverie.runtime.")]
for name in found:
    if name != "edgereverie.runtime.backends.hf":
        import_module(name)
print(len(found))
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


def test_an_answer_into_a_pipe_loads_nothing_that_it_does_not_need() -> None:
    code = f"""
import sys
sys.argv = ["x"]
sys.path.insert(0, {str(CHECKOUT / "tests" / "cli")!r})
import _slow_model as slow
from edgereverie import stages
model = slow.model(0.0)
stages.open_model = lambda *_, **__: model
try:
    slow.main(["ask", "slow", "What is there?"])
except SystemExit as leaving:
    assert not leaving.code
print([name for name in {(*HEAVY, "rich", "edgereverie.recipe", "edgereverie.data", "yaml")!r} if name in sys.modules])
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    answer, loaded = done.stdout.splitlines()
    assert answer.startswith("There is a red ring") and loaded == "[]"


def test_help_takes_little_processor_time() -> None:
    """0.17 s were measured on a 2-core machine; the bound has room for slower ones. The best of three counts."""
    resource = pytest.importorskip("resource")
    code = """
import resource
from edgereverie.cli.app import main
try:
    main(["--help"])
except SystemExit:
    pass
used = resource.getrusage(resource.RUSAGE_SELF)
import sys
print(used.ru_utime + used.ru_stime, file=sys.stderr)
"""
    assert resource is not None
    assert min(float(run_python(code).stderr) for _ in range(3)) < 0.6


def test_the_public_names_exist() -> None:
    code = """
import edgereverie
for name in edgereverie.__all__:
    assert getattr(edgereverie, name) is not None, name
assert "load_recipe" in dir(edgereverie)
from edgereverie import stages
for name in stages.__all__:
    assert getattr(stages, name) is not None, name
try:
    edgereverie.nothing
except AttributeError as error:
    print(error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "module 'edgereverie' has no attribute 'nothing'"


def test_python_minus_m_is_the_command() -> None:
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-m", "edgereverie", "--version"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.stdout.startswith("edgereverie 0.")
