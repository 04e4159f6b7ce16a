"""A headless Chromium, driven through its DevTools pipe with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# The browser wants its pipes as descriptors 3 and 4.
_LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 20) for number in sys.argv[1:3])
os.dup2(read, 3); os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}


class Browser:
    """One page. events: everything that the browser reported, in order."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        self._folder = tempfile.TemporaryDirectory(prefix="edgereverie-browser-")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(to_read), str(to_write), PROGRAM, "--headless=new", "--no-sandbox",
             "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={self._folder.name}",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost", "about:blank"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._number, self._held, self._session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        pages = self._call("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        self._session = None
        try:
            self._call("Browser.close")
        except (OSError, TimeoutError):
            self._process.kill()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)
        self._folder.cleanup()

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = self._read(until - time.monotonic())
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            if "method" in found:
                self.events.append(found)
        raise TimeoutError(method)

    def _read(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            if not select.select([self._from], [], [], max(0.0, seconds))[0]:
                raise TimeoutError("the browser says nothing")
            data = os.read(self._from, 1 << 16)
            if not data:
                raise OSError("the browser has ended")
            self._held += data
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)

    # What tests do

    def open(
        self,
        url: str,
        *,
        width: int = 1200,
        height: int = 860,
        dark: bool = False,
        calm: bool = False,
        ready: str = "document.querySelector('#guard option')",
    ) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self._call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self._call("Page.navigate", url=url)
        self.until(f"document.readyState === 'complete' && {ready}")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        done = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never came true: {condition}"
            time.sleep(0.03)

    def choose(self, path: Path) -> None:
        """Give the file to the page's file input, as the browser's own dialogue does."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])
        self.until("document.querySelector('#file-told').textContent")

    def drop(self, path: Path) -> None:
        """Drop a file on the middle of the picture's area."""
        x, y = self.middle("#drop")
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def middle(self, selector: str) -> tuple[float, float]:
        """In the window, into which it is scrolled where it is not in sight."""
        found = f"const element = document.querySelector({json.dumps(selector)});"
        near = "element.scrollIntoView({block: 'nearest', behavior: 'instant'});"
        box = "const box = element.getClientRects()[0]; return [box.left + box.width / 2, box.top + box.height / 2];"
        return tuple(self.run(f"(() => {{ {found} {near} {box} }})()"))

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str) -> None:
        x, y = self.middle(selector)
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        text = {"Enter": "\r", " ": " "}.get(key, "")
        shared = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS[key]}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
        self._call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def type(self, text: str) -> None:
        self._call("Input.insertText", text=text)

    def tree(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader meets."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored") and "role" in node
        ]

    def photograph(self, path: Path) -> None:
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """What the browser reported under these names since the page was opened."""
        self.run("0")  # everything that was on its way has come with the answer
        return [event["params"] for event in self.events if event["method"] in methods]
