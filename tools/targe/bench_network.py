"""The network of `targe bench`: a namespace with a tap device, on which the machine and its clients
meet. It lives as long as a sleeping process in it, which ends with the command.
"""

import os
import subprocess

from targe.machine import MAC, die_with_parent
from targe.report import Failure

HOST, GUEST, TAP = "10.0.2.2", "10.0.2.15", "tap0"


class Network:
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
            raise Failure(f"no right to make a network namespace: {reason}")
        join = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        # Joining may change credentials, which would undo that a child ends with its parent.
        self.prefix = ("nsenter", "--target", str(self._holder.pid), "--net", *join,
                       "setpriv", "--pdeathsig", "KILL")
        try:
            for words in (["link", "set", "lo", "up"], ["tuntap", "add", "dev", TAP, "mode", "tap"],
                          # Without an address IPv6 sends nothing of its own.
                          ["link", "set", TAP, "addrgenmode", "none"],
                          ["addr", "add", f"{HOST}/24", "dev", TAP], ["link", "set", TAP, "up"],
                          ["neigh", "replace", GUEST, "lladdr", MAC, "dev", TAP,
                           "nud", "permanent"]):
                self.run("ip", *words)
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
        """Runs a command inside; gives its output."""
        try:
            done = subprocess.run([*self.prefix, *map(str, words)], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=timeout, pass_fds=descriptors, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{words[0]} does not end") from error
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, words))}: {done.stdout.strip()}")
        return done.stdout
