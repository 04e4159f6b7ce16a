"""Downloads against a real server on this machine that breaks off, lies, refuses and redirects."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from edgereverie.data import download as downloads
from edgereverie.data.catalogue import Catalogue, File, Item, catalogue, item
from edgereverie.data.download import Wanted, download, require_safe
from edgereverie.data.get import LOCK, get, missing
from edgereverie.errors import DataError, RecipeError
from edgereverie.strict_yaml import load_model

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Served:
    """What the server does. cuts: after how many bytes each answer breaks off; statuses: what it answers with first."""

    content: bytes = CONTENT
    etag: str = '"v1"'
    kind: str = "application/octet-stream"
    ranges: bool = True
    announced: int | None = None
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    @property
    def url(self) -> str:
        return f"{self.address}/file.json"


class _Handler(BaseHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        served = self.served
        wanted = self.headers.get("Range")
        served.asked.append((self.path, wanted))
        status = served.statuses.pop(0) if served.statuses else 200
        if status != 200:
            self.send_response(status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if wanted and served.ranges and self.headers.get("If-Range", served.etag) == served.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
        body = served.content[start:]
        if start and not body:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(served.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        self.send_header("Content-Length", str(len(body) if served.announced is None else served.announced))
        self.send_header("Content-Type", served.kind)
        if served.etag:
            self.send_header("ETag", served.etag)
        self.end_headers()
        if served.cuts:
            body = body[: served.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    handler = type("Handler", (_Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Served]:
    with serving(Served()) as served:
        yield served


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the machine's environment has no business with the loopback address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_hash_and_nothing_beside_it(tmp_path: Path, server: Served) -> None:
    steps: list[tuple[int, int | None]] = []
    got = download(Wanted(server.url, tmp_path / "a" / "x.json", SHA, len(CONTENT)), lambda *step: steps.append(step))
    assert got == (SHA, len(CONTENT)) and (tmp_path / "a" / "x.json").read_bytes() == CONTENT
    assert left(tmp_path / "a") == ["x.json"]
    assert steps[-1] == (len(CONTENT), len(CONTENT)) and steps == sorted(steps)


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path, server: Served) -> None:
    server.cuts = [100_000, 50_000, 1, 70_000]
    assert download(Wanted(server.url, tmp_path / "x.json")) == (SHA, len(CONTENT))
    assert [wanted for _, wanted in server.asked] == [
        None, "bytes=100000-", "bytes=150000-", "bytes=150001-", "bytes=220001-",
    ]  # fmt: skip


def test_a_later_run_goes_on_where_an_earlier_one_was_stopped(tmp_path: Path, server: Served) -> None:
    server.cuts, wanted = [100_000], Wanted(server.url, tmp_path / "x.json")

    def stop(done: int, _: int | None) -> None:
        if done >= 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(wanted, stop)
    kept = wanted.part.stat().st_size
    assert left(tmp_path) == ["x.json.part", "x.json.part.json"] and 0 < kept <= 100_000
    assert download(wanted) == (SHA, len(CONTENT))
    assert server.asked[1][1] == f"bytes={kept}-" and left(tmp_path) == ["x.json"]


def test_a_complete_part_needs_nothing_more(tmp_path: Path, server: Served) -> None:
    """Killed between the last byte and the renaming."""
    wanted = Wanted(server.url, tmp_path / "x.json")
    wanted.part.write_bytes(CONTENT)
    wanted.note.write_text(json.dumps({"url": server.url, "version": server.etag}))
    assert download(wanted) == (SHA, len(CONTENT)) and left(tmp_path) == ["x.json"]


def test_parts_of_two_versions_are_never_glued(tmp_path: Path, server: Served) -> None:
    server.cuts, wanted = [100_000] + [0] * 6, Wanted(server.url, tmp_path / "x.json")
    with pytest.raises(DataError, match="the connection broke"):
        download(wanted)
    server.content, server.etag, server.cuts = CONTENT[::-1], '"v2"', []
    assert download(wanted)[0] == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert (tmp_path / "x.json").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("note", [None, "{", '{"url": "https://other", "version": "v"}', '["x"]'])
def test_a_part_of_who_knows_what_is_thrown_away(tmp_path: Path, server: Served, note: str | None) -> None:
    wanted = Wanted(server.url, tmp_path / "x.json")
    wanted.part.write_bytes(b"something else")
    if note is not None:
        wanted.note.write_text(note)
    assert download(wanted) == (SHA, len(CONTENT)) and server.asked == [("/file.json", None)]


def test_a_server_without_ranges_is_asked_from_the_start(tmp_path: Path, server: Served) -> None:
    server.ranges, server.cuts = False, [100_000]
    assert download(Wanted(server.url, tmp_path / "x.json")) == (SHA, len(CONTENT))
    assert (tmp_path / "x.json").read_bytes() == CONTENT


@pytest.mark.parametrize("statuses", [[500], [503, 429, 502]])
def test_a_busy_server_is_asked_again(tmp_path: Path, server: Served, statuses: list[int]) -> None:
    server.statuses = list(statuses)
    assert download(Wanted(server.url, tmp_path / "x.json"))[0] == SHA
    assert len(server.asked) == len(statuses) + 1


def test_a_server_may_say_how_long_to_wait(tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waited.append)
    server.statuses, server.headers = [429, 429, 503], {"Retry-After": "7"}
    download(Wanted(server.url, tmp_path / "x.json"))
    server.statuses, server.headers = [500, 500, 500], {}
    download(Wanted(server.url, tmp_path / "y.json"), pause=1.0)
    server.statuses, server.headers = [429], {"Retry-After": "86400"}
    download(Wanted(server.url, tmp_path / "z.json"))
    assert waited == [7, 7, 7, 2, 4, 8, 60]


def test_a_server_that_never_recovers_is_given_up(tmp_path: Path, server: Served) -> None:
    server.statuses = [500] * 9
    with pytest.raises(DataError, match="the server answers 500") as raised:
        download(Wanted(server.url, tmp_path / "x.json"), attempts=3)
    assert len(server.asked) == 3 and "by hand" in str(raised.value.hint) and left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "may have moved"), (410, "may have moved"), (401, "login"), (403, "login")]
)
def test_a_refusal_is_not_asked_again(tmp_path: Path, server: Served, status: int, hint: str) -> None:
    server.statuses = [status] * 3
    with pytest.raises(DataError, match=f"answers {status}") as raised:
        download(Wanted(server.url, tmp_path / "x.json"))
    assert len(server.asked) == 1 and hint in str(raised.value.hint) and left(tmp_path) == []


def test_wrong_bytes_leave_nothing(tmp_path: Path, server: Served) -> None:
    server.content = CONTENT[:-1] + b"\0"
    with pytest.raises(DataError, match="came with the SHA-256") as raised:
        download(Wanted(server.url, tmp_path / "x.json", SHA))
    assert SHA in str(raised.value) and left(tmp_path) == []


def test_a_wrong_beginning_is_found_and_the_next_run_is_clean(tmp_path: Path, server: Served) -> None:
    """With a known hash a part without a note is gone on with, and thrown away when it was wrong."""
    wanted = Wanted(server.url, tmp_path / "x.json", SHA)
    wanted.part.write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="SHA-256"):
        download(wanted)
    assert left(tmp_path) == [] and download(wanted)[0] == SHA


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_another_length_than_known_is_refused_before_it_is_fetched(tmp_path: Path, server: Served, size: int) -> None:
    with pytest.raises(DataError, match="announces 300,000 bytes"):
        download(Wanted(server.url, tmp_path / "x.json", size=size))
    assert left(tmp_path) == []


def test_more_than_any_file_has_is_refused(tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    server.announced = (64 << 30) + 1
    with pytest.raises(DataError, match="at most 68,719,476,736"):
        download(Wanted(server.url, tmp_path / "x.json"))
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    server.announced = None
    with pytest.raises(DataError, match="1,000 are free"):
        download(Wanted(server.url, tmp_path / "x.json"))


def test_an_endless_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent without a length, so that only counting helps."""

    class Endless(_Handler):
        served = Served()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with pytest.raises(OSError):
                while True:
                    self.wfile.write(b"x" * 100_000)

    monkeypatch.setattr(downloads, "MAX_BYTES", 1_000_000)
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(DataError, match="sends more than the 1,000,000 bytes"):
                download(Wanted(f"http://127.0.0.1:{server.server_port}/", tmp_path / "x.bin"))
        finally:
            server.shutdown()
            thread.join()
    assert left(tmp_path) == []


def test_a_web_page_is_not_taken_for_the_file(tmp_path: Path, server: Served) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match=r"sent a web page instead of x\.json") as raised:
        download(Wanted(server.url, tmp_path / "x.json"))
    assert "in a browser" in str(raised.value.hint) and left(tmp_path) == []


def test_nobody_there(tmp_path: Path) -> None:
    with serving(Served()) as served:
        pass
    with pytest.raises(DataError, match="is not to be reached") as raised:
        download(Wanted(served.url, tmp_path / "x.json"), attempts=2)
    assert f"place the file at {tmp_path / 'x.json'}" in str(raised.value.hint)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd", "//x", "x", "http://127.0.0.1.evil.org/"],
)
def test_only_https_is_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only https"):
        download(Wanted(url, tmp_path / "x"))
    require_safe("https://example.org/x")


@pytest.mark.parametrize("target", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd"])
def test_a_redirect_stays_safe(tmp_path: Path, server: Served, target: str) -> None:
    server.statuses, server.headers = [302], {"Location": target}
    with pytest.raises(DataError, match=r"only https|not allowed"):
        download(Wanted(server.url, tmp_path / "x.json"), attempts=1)
    assert left(tmp_path) == []


def test_https_is_never_left_not_even_for_this_machine() -> None:
    handler = downloads._SafeRedirects()
    request = downloads.urllib.request.Request("https://example.org/x")
    with pytest.raises(DataError, match="only https"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://127.0.0.1/x")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/y").full_url.endswith("/y")


def test_a_redirect_is_followed_with_its_range_and_the_hubs_hash(tmp_path: Path, server: Served) -> None:
    """The hub tells the file's SHA-256 on the way to where it lies."""
    server.statuses, server.headers = [302], {"Location": "/elsewhere", "X-Linked-ETag": f'"{SHA}"'}
    assert download(Wanted(server.url, tmp_path / "x.json"))[0] == SHA
    assert [path for path, _ in server.asked] == ["/file.json", "/elsewhere"]
    server.statuses, server.headers = [302], {"Location": "/elsewhere", "X-Linked-ETag": f'"{"0" * 64}"'}
    with pytest.raises(DataError, match="expected was 000"):
        download(Wanted(server.url, tmp_path / "y.json"))


def test_a_full_disk_is_no_broken_connection(
    tmp_path: Path, server: Served, file_size_limit: Callable[[int], object]
) -> None:
    with pytest.raises(OSError), file_size_limit(100_000):  # type: ignore[attr-defined]
        download(Wanted(server.url, tmp_path / "x.json"))
    assert len(server.asked) == 1


@pytest.fixture
def entry(server: Served) -> Item:
    unknown = {"bytes": None, "sha256": None, "about": None, "unpack": None, "flat": False}
    first, second = (
        File.model_construct(**unknown | {"path": name, "url": f"{server.address}/{name}"} | known)
        for name, known in (("a.json", {"sha256": SHA}), ("b.json", {}))
    )
    return Item.model_construct(what="w", licence="l", page="https://p", files=[first, second])


def test_files_are_fetched_once_and_their_hashes_noted(tmp_path: Path, server: Served, entry: Item) -> None:
    assert [file.path for file in missing(entry, tmp_path)] == ["a.json", "b.json"]
    first = get(entry, tmp_path)
    assert [(got.path.name, got.fetched, got.checked) for got in first] == [
        ("a.json", True, True),
        ("b.json", True, False),
    ]
    assert left(tmp_path) == ["a.json", "b.json", LOCK] and missing(entry, tmp_path) == []
    lock = json.loads((tmp_path / LOCK).read_text())
    assert lock["files"]["b.json"] == {"sha256": SHA, "bytes": len(CONTENT), "url": f"{server.address}/b.json"}
    again = get(entry, tmp_path)
    assert [(got.fetched, got.checked) for got in again] == [(False, True), (False, True)] and len(server.asked) == 2


def test_a_file_that_changes_in_silence_is_noticed(tmp_path: Path, server: Served, entry: Item) -> None:
    """By its owner, or on this disk; --force takes the new one."""
    get(entry, tmp_path)
    (tmp_path / "b.json").unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match=f"expected was {SHA}"):
        get(entry, tmp_path)
    server.content = CONTENT
    get(entry, tmp_path)
    (tmp_path / "b.json").write_bytes(b"altered")
    with pytest.raises(DataError, match=r"b\.json: its SHA-256 is") as raised:
        get(entry, tmp_path)
    assert "--force" in str(raised.value.hint)
    assert all(got.fetched for got in get(entry, tmp_path, force=True))
    assert (tmp_path / "b.json").read_bytes() == CONTENT


def test_files_placed_by_hand_are_taken(tmp_path: Path, server: Served, entry: Item) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(CONTENT)
    assert [(got.fetched, got.checked) for got in get(entry, tmp_path)] == [(False, True), (False, False)]
    assert [(got.fetched, got.checked) for got in get(entry, tmp_path)] == [(False, True), (False, True)]
    assert server.asked == []


def test_a_broken_lock_file_is_told(tmp_path: Path, entry: Item) -> None:
    (tmp_path / LOCK).write_text("{")
    with pytest.raises(DataError, match="lock file cannot be read"):
        get(entry, tmp_path)


def test_the_catalogue_is_sound() -> None:
    known = catalogue()
    assert {"reverie", "lrv", "povid", "csr", "llava-instruct", "coco-train2014", "visual-genome-images", "pope", "chair",
            "amber", "gavie", "mmhal", "hallusionbench", "scienceqa"} <= set(known)  # fmt: skip
    addresses = [file.url for entry in known.values() for file in entry.files]
    assert len(set(addresses)) == len(addresses)
    assert "NC" in known["reverie"].licence and "NC" in known["scienceqa"].licence
    for entry in known.values():
        assert len({file.path for file in entry.files}) == len(entry.files)
        for file in entry.files:
            assert (file.sha256 is None) == (file.bytes is None)
            # A hash of a file that may change is worth nothing: it is known only of those at a commit.
            assert file.sha256 is None or re.search(r"/[0-9a-f]{40}/", file.url)
    with pytest.raises(DataError, match="Nothing called 'pop'") as raised:
        item("pop")
    assert "Did you mean 'pope'?" in str(raised.value.hint)


def test_the_hashes_are_those_of_the_published_files(golden: Path) -> None:
    """Against the manifest of copies that were taken from the same repositories at the same commits."""
    manifest = json.loads((golden / "MANIFEST.json").read_text(encoding="utf-8"))
    published = {
        f"https://raw.githubusercontent.com/{row['source_repo']}/{row['source_commit']}/{row['source_path']}": row
        for row in manifest
        if row.get("transform") == "verbatim"
    }
    compared = [
        ((file.sha256, file.bytes), (row["sha256_raw"], row["raw_bytes"]))
        for entry in catalogue().values()
        for file in entry.files
        if (row := published.get(file.url))
    ]
    assert len(compared) >= 10 and all(ours == theirs for ours, theirs in compared)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("url: http://example.org/x", "https://"),
        ("url: https://example.org/x, sha256: abc", "sha256"),
        ("url: https://example.org/x, bytes: 0", "bytes"),
        ("url: https://example.org/x, path: ../x", "inside the entry's folder"),
        ("url: https://example.org/x, sise: 3", "sise"),
    ],
)
def test_a_wrong_catalogue_is_refused(tmp_path: Path, change: str, message: str) -> None:
    fields = change if "path:" in change else f"path: x, {change}"
    text = (
        f"items:\n  a:\n    what: w\n    licence: l\n    page: https://example.org\n    files:\n      - {{{fields}}}\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_model(tmp_path / "c.yaml", Catalogue)
