"""A network namespace with a tap device, on which a machine and its clients meet.

It lives as long as a sleeping process in it, which ends with whoever made it: nothing is left in the system.
"""

import os
import subprocess

from targe.machine import MAC, die_with_parent
from targe.report import Failure

HOST, GUEST, TAP = "10.0.2.2", "10.0.2.15", "tap0"


class Network:
    """A context manager. `prefix` runs a command inside. In a quiet one nothing is sent by itself:
    it has no IPv6, and knows the machine's link address."""

    def __init__(self, quiet=False):
        self._quiet = quiet

    def __enter__(self):
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        self._holder = subprocess.Popen(
            ["unshare", *user, "--net", "sh", "-c", "echo ready; exec sleep infinity"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent)
        if self._holder.stdout.readline() != "ready\n":
            reason = self._holder.stderr.read().strip()
            self.__exit__()
            raise Failure(f"no right to make a network namespace: {reason}")
        join = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        # Joining may change credentials, which would undo that a child ends with its parent.
        self.prefix = ("nsenter", "--target", str(self._holder.pid), "--net", *join,
                       "setpriv", "--pdeathsig", "KILL")
        try:
            self.run("ip", "link", "set", "lo", "up")
            self.run("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
            if self._quiet:
                self.run("ip", "link", "set", TAP, "addrgenmode", "none")
            self.run("ip", "addr", "add", f"{HOST}/24", "dev", TAP)
            self.run("ip", "link", "set", TAP, "up")
            if self._quiet:
                self.run("ip", "neigh", "replace", GUEST, "lladdr", MAC, "dev", TAP, "nud", "permanent")
        except Failure:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()

    def run(self, *words, timeout=900, descriptors=()):
        """Runs a command inside; gives its output, fails if it does."""
        try:
            done = subprocess.run([*self.prefix, *map(str, words)], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=timeout, pass_fds=descriptors, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{words[0]} does not end") from error
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, words))}: {done.stdout.strip()}")
        return done.stdout
