"""Nothing asks the network: every way in, on every backend, where opening a socket outward ends the process.

Two locks: an audit hook, which sees what Python code opens and says where; and on Linux a filter in the kernel, which
native libraries cannot pass by either.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
LOCKS = '''
import ctypes, os, platform, struct, sys

OUTWARD = (2, 10, 17)  # AF_INET, AF_INET6, AF_PACKET on Linux; the first is AF_INET everywhere


def audit(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        raise SystemExit(f"asks the network: {event} {arguments[1:]}")
    if event == "socket.__new__" and arguments[1] != getattr(__import__("socket"), "AF_UNIX", None):
        raise SystemExit(f"asks the network: {event} {arguments[1:]}")


def filter_sockets():
    """seccomp: socket() of an outward family kills the process with SIGSYS; all else passes."""
    number = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}[platform.machine()]
    load, equal, back = 0x20, 0x15, 0x06
    families = len(OUTWARD)
    steps = [(load, 0, 0, 4), (equal, 0, families + 3, number[0]), (load, 0, 0, 0), (equal, 0, families + 1, number[1]),
             (load, 0, 0, 16)]
    steps += [(equal, families - i, 0, family) for i, family in enumerate(OUTWARD)]
    steps += [(back, 0, 0, 0x7FFF0000), (back, 0, 0, 0x80000000)]
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, head, 0, 0):
        raise SystemExit(f"no filter: {os.strerror(ctypes.get_errno())}")


if os.environ.get("LOCK") == "kernel":
    filter_sockets()
elif os.environ.get("LOCK") == "audit":
    sys.addaudithook(audit)
'''
KERNEL = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
LOCK = "kernel" if KERNEL else "audit"
SIGSYS = 31


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory):
    """Run Python with a lock: ``locked("kernel", "-m", "edgereverie", ...)``."""
    folder = tmp_path_factory.mktemp("locks")
    (folder / "sitecustomize.py").write_text(LOCKS, encoding="utf-8")

    def run(lock: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        if lock == "kernel" and not KERNEL:
            pytest.skip("no such filter on this system")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = kept | {"PYTHONPATH": os.pathsep.join([str(folder), str(CHECKOUT)]), "LOCK": lock}
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=environment, input=given, timeout=200
        )

    return run


REACHES = {
    "python": "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
    "native code": "import ctypes; ctypes.CDLL(None).socket(2, 1, 0)",
    "a thread": "import threading, socket, os; t = threading.Thread(target=lambda: socket.socket()); t.start(); t.join()",
    "a child": "import subprocess, sys, os; c = subprocess.run([sys.executable, '-c', 'import socket; socket.socket()']); "
    "os.kill(os.getpid(), -c.returncode)",
}


@pytest.mark.parametrize("who", REACHES)
def test_the_kernels_lock_holds(locked, who: str) -> None:
    assert locked("kernel", "-c", "print('alive')").stdout == "alive\n"
    assert locked("kernel", "-c", "import socket; socket.socket(socket.AF_UNIX); print('alive')").stdout == "alive\n"
    assert locked("kernel", "-c", REACHES[who] + "; print('out')").returncode == -SIGSYS


ASKS = (
    REACHES["python"], "import socket; socket.getaddrinfo('example.org', 80)",
    "import urllib.request as u; u.urlopen('http://example.org')",
)  # fmt: skip


@pytest.mark.parametrize("code", ASKS)
def test_the_audit_holds(locked, code: str) -> None:
    done = locked("audit", "-c", code)
    assert done.returncode == 1 and "asks the network" in done.stderr


# All of them in one process, for torch takes seconds to import.
EVERY_WAY = """
import sys
from edgereverie.cli.app import main
model, photo, folder, *common = sys.argv[1:]
for words in (
    ["ask", model, "Is there a ring?", "--image", photo, "--json", "--guard", "verify"],
    ["chat", model],
    ["batch", model, folder + "/in.jsonl", folder + "/out.jsonl"],
):
    try:
        main([*words, *common])
    except SystemExit as leaving:
        print("left with", leaving.code, flush=True)
"""


@pytest.mark.parametrize("backend", ["llamacpp", "onnxrt", "hf"])
def test_every_way_in_stays_at_home(locked, loadable, backend: str, photo: Path, tmp_path: Path) -> None:
    model = str(loadable(backend))
    question = {"id": "1", "image": "x.png", "question": "Is there a ring?"}
    (tmp_path / "in.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    (tmp_path / "x.png").write_bytes(photo.read_bytes())
    done = locked(
        LOCK, "-c", EVERY_WAY, model, str(photo), str(tmp_path), "--backend", backend, "--max-tokens", "6",
        given=f"/image {photo}\nIs there a ring?\n/why\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked, left, *talked, last, wrote, end = done.stdout.splitlines()
    answer = json.loads(asked)["answer"]
    assert answer["backend"].startswith(backend) and answer["prompt_tokens"] > 36
    assert left in ("left with 0", "left with 3") and last == end == "left with 0" and talked
    assert wrote == f"wrote {tmp_path / 'out.jsonl'}" and "error" not in done.stderr
    answered = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["answer"]
    assert answered["backend"] == answer["backend"] and answered["prompt_tokens"] == answer["prompt_tokens"]


def test_a_model_that_is_not_here_is_an_error_and_no_download(locked) -> None:
    pytest.importorskip("huggingface_hub")
    done = locked(LOCK, "-m", "edgereverie", "ask", "nobody/nothing-of-the-kind", "What?")
    assert done.returncode == 1 and "neither a folder here nor in the hub's cache" in done.stderr
