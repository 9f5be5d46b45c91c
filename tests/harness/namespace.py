"""A network namespace with a tap device, for one test.

The namespace lives as long as a sleeping process in it, which ends with the test: nothing is
left in the system. Without the right to make one, the test is skipped.
"""

import os
import subprocess

from harness.outcome import Skip
from targe.machine import die_with_parent

HOST = "10.0.2.2"
GUEST = "10.0.2.15"
TAP = "tap0"


class Namespace:
    """A context manager. `prefix` runs a command inside."""

    def __enter__(self):
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", *user, "--net", "sh", "-c", "echo ready; exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent)
        if self._holder.stdout.readline() != "ready\n":
            reason = self._holder.stderr.read().strip()
            self.__exit__()
            raise Skip(f"no right to make a network namespace: {reason}")
        join = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        # Joining may change credentials, which would undo that a child ends with its parent.
        self.prefix = ("nsenter", "--target", str(self._holder.pid), "--net", *join,
                       "setpriv", "--pdeathsig", "KILL")
        try:
            for words in (["link", "set", "lo", "up"],
                          ["tuntap", "add", "dev", TAP, "mode", "tap"],
                          ["addr", "add", f"{HOST}/24", "dev", TAP],
                          ["link", "set", TAP, "up"]):
                self.run("ip", *words)
        except AssertionError as error:
            self.__exit__()
            raise Skip(f"no tap device can be made: {error}") from error
        return self

    def __exit__(self, *_):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()

    def run(self, *words, timeout=60):
        """Runs a command inside; gives its output, fails if it does."""
        done = subprocess.run([*self.prefix, *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout.strip()}"
        return done.stdout
