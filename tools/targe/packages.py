"""Debian packages: what each command needs, and installing what is missing.

Only apt-get, dpkg-query and apt-cache are used, so that a bare system can do it.
"""

import os
import shutil
import subprocess
import sys

from targe.report import Failure, Progress

_BUILD = ("gcc", "make", "binutils", "dpkg-dev", "libc6-dev", "clang")
_RUN = ("qemu-system-x86",)
_ISO = ("grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "xorriso", "mtools")
_DEBUG = ("gdb",)
_TEST = ("libcmocka-dev", "libclang-rt-dev", "llvm", "ovmf", "curl", "wrk", "iproute2",
         "iputils-ping", "util-linux", "tcpdump", "chromium", "python3-scapy")
_BENCH = ("musl-tools", "iproute2", "util-linux", "clang")

NEEDED = {
    "build": _BUILD,
    "run": _BUILD + _RUN,
    "bench": _BUILD + _RUN + _BENCH,
    "debug": _BUILD + _RUN + _DEBUG,
    "iso": _BUILD + _ISO,
    "code": _BUILD + ("llvm",),
    "bochs": _BUILD + _ISO + ("bochs", "bochs-term", "bochsbios", "vgabios"),
    "test": _BUILD + _RUN + _ISO + _DEBUG + _TEST + _BENCH,
}
# On Ubuntu the browser is a snap and no package: the test that needs it looks for itself.
_NOT_ON_UBUNTU = {"chromium"}
_INSTALL = ["apt-get", "install", "-y", "--no-install-recommends"]


def is_ubuntu():
    """Whether this is Ubuntu, or made from it."""
    try:
        with open("/etc/os-release", encoding="utf-8") as release:
            lines = release.read().splitlines()
    except OSError:
        return False
    return any(line.startswith(("ID=", "ID_LIKE=")) and "ubuntu" in line for line in lines)


def ensure(command):
    """Installs what `command` needs and the system lacks."""
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        raise Failure("needs a system with apt (Debian 12 or Ubuntu 24.04)")
    wanted = [name for name in NEEDED[command]
              if not (name in _NOT_ON_UBUNTU and is_ubuntu())]
    missing = _missing(wanted)
    if not missing:
        return
    as_root = _root_prefix(missing)
    progress = Progress(f"installing {' '.join(missing)}")
    try:
        if _lacks_candidate(missing):
            _apt(as_root, ["apt-get", "update"], progress)
        try:
            _apt(as_root, _INSTALL + missing, progress)
        except Failure:
            # The package lists may be older than the archive: refresh them and try once more.
            _apt(as_root, ["apt-get", "update"], progress)
            _apt(as_root, _INSTALL + missing, progress)
    except BaseException:
        progress.clear()
        raise
    progress.done(f"installed {' '.join(missing)}")


def _missing(names):
    """Those of the names that are not installed."""
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    there = {line.split()[0] for line in answer.stdout.splitlines()
             if line.split()[1:] == ["installed"]}
    return [name for name in names if name not in there]


def _lacks_candidate(names):
    """Whether the package lists do not know a name yet."""
    for name in names:
        answer = subprocess.run(["apt-cache", "policy", name], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True, check=False,
                                env=dict(os.environ, LC_ALL="C"))
        if "Candidate: " not in answer.stdout or "Candidate: (none)" in answer.stdout:
            return True
    return False


def _root_prefix(missing):
    """What to put before a command so that it runs as root."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        quiet = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if quiet.returncode == 0:
            return ["sudo", "-n"]
        if sys.stdin.isatty():
            return ["sudo"]
    raise Failure(f"packages are missing; run: sudo {' '.join(_INSTALL)} {' '.join(missing)}")


def _apt(as_root, command, progress):
    """Runs apt-get, showing its progress; its last lines are the error if it fails."""
    process = subprocess.Popen(
        [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", *command],
        stdin=None if as_root == ["sudo"] else subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    lines = []
    with process.stdout:
        for line in process.stdout:
            lines.append(line.rstrip())
            progress.show(lines[-1])
    if process.wait() != 0:
        errors = [line for line in lines if line.startswith("E:")] or lines[-1:]
        raise Failure(f"{' '.join(command)} failed: {' '.join(errors)}")
