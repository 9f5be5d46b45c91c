"""Chromium without a window, driven through the DevTools protocol over two pipes."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

from harness.outcome import Skip
from targe.machine import die_with_parent
from targe.packages import is_ubuntu

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe")


def _program():
    for name in _NAMES:
        if shutil.which(name):
            return name
    if is_ubuntu():
        raise Skip("no Chromium: on Ubuntu it is a snap; install it by `snap install chromium`")
    raise AssertionError("no Chromium is installed")


class Browser:
    """One browser with one page; a context manager. `folder`: for its profile."""

    def __init__(self, folder):
        self._folder = folder

    def __enter__(self):
        program = _program()
        # Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
        command_read, self._commands = os.pipe()
        self._answers, answer_write = os.pipe()

        def connect():
            die_with_parent()
            ends = [os.dup(command_read), os.dup(answer_write)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self._process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={self._folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=connect, close_fds=False, start_new_session=True)
        os.close(command_read)
        os.close(answer_write)
        self._buffer = b""
        self._number = 0
        self.failures = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = None
        self._session = self._call("Target.attachToTarget", targetId=target,
                                   flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self._commands)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    def open(self, address, width, height, mobile=False):
        """Opens a page at a size and waits until it is loaded."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                   deviceScaleFactor=2 if mobile else 1, mobile=mobile)
        self._call("Page.navigate", url=address)
        limit = time.monotonic() + 30
        while self.value("document.readyState") != "complete":
            assert time.monotonic() < limit, "the page does not load"
            time.sleep(0.1)

    def value(self, expression):
        """The value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True,
                            awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code):
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                       windowsVirtualKeyCode=code)

    def screenshot(self, path):
        """Saves a picture of the whole page."""
        picture = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method, **parameters):
        """Sends a command and waits for its answer; notes the page's errors on the way."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _note(self, message):
        if message.get("method") == "Runtime.exceptionThrown":
            self.failures.append(message["params"]["exceptionDetails"]["text"])
        if message.get("method") == "Log.entryAdded":
            entry = message["params"]["entry"]
            if entry["level"] == "error":
                self.failures.append(f"{entry['text']} {entry.get('url', '')}".strip())

    def _receive(self):
        while b"\0" not in self._buffer:
            ready = select.select([self._answers], [], [], 60)[0]
            assert ready, "the browser does not answer"
            data = os.read(self._answers, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)
