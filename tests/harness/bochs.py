"""Guest tests under Bochs, by `./targe test --bochs`: its processor has what QEMU's emulation lacks (PCID, x2APIC,
INVPCID, a timer that takes a TSC value). Guest test `cpu_paths` fails unless it has all of them. The machine boots from the image that `targe iso` writes. It is slow, so
it is not part of the usual run. Time in it is instructions, so a busy host changes nothing. Its CPU is one that does not tell the rate of its TSC:
those that do tell that of the real one, fifty times what Bochs counts, and all that waits would take fifty times as long.
"""

import os
import pty
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness.guest import PASSED, Configuration, GuestSuite, test_parts
from targe import iso, project
from targe.machine import die_with_parent

_SETTINGS = """cpu: model=broadwell_ult, count={cpus}, ips=50000000
memory: guest=256, host=256
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path={folder}/image, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={folder}/console
clock: sync=none
display_library: term
log: {folder}/log
panic: action=fatal
error: action=report
"""


class BochsMachine:
    """As much of targe.machine.Machine as the suite uses."""

    def __init__(self, configuration, append):
        self._folder = tempfile.TemporaryDirectory(prefix="targe-bochs-")
        folder = Path(self._folder.name)
        iso.write(test_parts(configuration.variant), project.kernel(configuration.variant),
                  folder / "image", append)
        (folder / "settings").write_text(
            _SETTINGS.format(cpus=configuration.smp, folder=folder), encoding="utf-8")
        (folder / "commands").write_text("c\n", encoding="utf-8")
        self._console = folder / "console"
        self._console.touch()
        self._terminal, inside = pty.openpty()
        self._process = subprocess.Popen(
            ["bochs", "-q", "-f", folder / "settings", "-rc", folder / "commands"],
            stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
            env={**os.environ, "TERM": "xterm"}, preexec_fn=die_with_parent)
        os.close(inside)
        threading.Thread(target=self._drain, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)
        self._folder.cleanup()

    def _drain(self):
        try:
            while os.read(self._terminal, 65536):
                pass
        except OSError:
            pass

    @property
    def output(self):
        """All that was printed on the serial line."""
        return self._console.read_text(encoding="utf-8", errors="replace").replace("\r", "")

    def next_line(self, position, seconds):
        """The line from this position on and where the next begins; None: none came in time."""
        limit = time.monotonic() + 10 * seconds  # one test has the checker run a hundred times
        while (end := self.output.find("\n", position)) < 0:
            if self._process.poll() is not None or time.monotonic() > limit:
                return None
            time.sleep(0.2)
        return self.output[position:end], end + 1

    def wait(self, _seconds):
        """How it ended: there is no device that tells, so what it printed last counts."""
        return PASSED if "test: end" in self.output else None

    def running(self):
        """Whether it still runs."""
        return self._process.poll() is None

    def why(self):
        """In words."""
        return "Bochs still runs" if self.running() else "Bochs ended"


class BochsSuite(GuestSuite):
    """The same tests, on one machine of two CPUs."""
    configurations = (Configuration("bochs2", "debug", 2),)

    def _start(self, configuration, append):
        return BochsMachine(configuration, f"everything=1 bochs=1 {append}")
