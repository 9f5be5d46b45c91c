"""The other side of `targe bench`: Debian's cloud kernel, unpacked and not installed, and an
initramfs with the programs of bench/linux.

The kernel is Linux at its best: nothing that guards against faults of the processor or of the
kernel itself, no accounting, no security modules. Everything is below build/bench/linux.
"""

import os
import re
import subprocess

from targe import project
from targe.report import Failure, Progress, say

FOLDER = project.BUILD / "bench" / "linux"
_SOURCES = project.ROOT / "bench" / "linux"
_PACKAGE = "linux-image-cloud-amd64"
_IMAGE = re.compile(r"linux-image-\d[\w.+~-]*-cloud-amd64")
# In the order in which they need each other.
_MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
            "virtio_pci", "failover", "net_failover", "virtio_net")
APPEND = ("console=ttyS0 quiet panic=-1 mitigations=off nokaslr init_on_alloc=0 "
          "randomize_kstack_offset=off lsm=capability audit=0 cgroup_disable=memory "
          "hardened_usercopy=off noautogroup preempt=none nowatchdog")


class Linux:
    """A kernel and an initramfs, both ready to be booted."""

    def __init__(self):
        self.kernel, modules = _kernel()
        self.version = self.kernel.name.removeprefix("vmlinuz-")
        programs = {name: _program(name) for name in ("init", "bench", "hello", "netserv")}
        self._initramfs = FOLDER / "initramfs"
        _write_initramfs(self._initramfs, programs, modules)

    def initramfs(self, _=""):
        """The initramfs."""
        return self._initramfs


def load_program():
    """The client that asks a machine which runs freely."""
    target = FOLDER / "netload"
    _compile("gcc", _SOURCES / "netload.c", target)
    return target


def lockstep_program():
    """The client that takes turns with the machine."""
    target = FOLDER / "lockstep"
    _compile("gcc", _SOURCES.parent / "lockstep.c", target)
    return target


def _program(name):
    _compile("musl-gcc", _SOURCES / f"{name}.c", FOLDER / name, "-static")
    return FOLDER / name


def _compile(compiler, source, target, *options):
    FOLDER.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return
    done = subprocess.run([compiler, "-O2", *options, "-o", str(target), str(source)],
                          stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{source.name} does not compile: {done.stderr.strip()}")


def _kernel():
    """Downloads and unpacks the kernel, once. Gives its file and the folder of its modules."""
    root = FOLDER / "root"
    found = sorted(root.glob("boot/vmlinuz-*"))
    if not found:
        package = _download(_image_package())
        root.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        package.unlink()
        found = sorted(root.glob("boot/vmlinuz-*"))
        say(f"unpacked {found[0].name}")
    version = found[0].name.removeprefix("vmlinuz-")
    return found[0], root / "lib" / "modules" / version / "kernel"


def _image_package():
    """The package that the newest cloud kernel is in."""
    answer = subprocess.run(["apt-cache", "depends", _PACKAGE], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=False,
                            env=dict(os.environ, LC_ALL="C"))
    match = _IMAGE.search(answer.stdout)
    if not match:
        raise Failure(f"apt knows no {_PACKAGE} here: the comparison needs Debian 12 "
                      "and package lists (apt-get update)")
    return match.group(0)


def _download(package):
    progress = Progress(f"downloading {package}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package],
                          cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, check=False)
    progress.clear()
    files = sorted(FOLDER.glob(f"{package}_*.deb"))
    if done.returncode != 0 or not files:
        raise Failure(f"{package} cannot be downloaded: {done.stderr.strip()}")
    return files[-1]


def _write_initramfs(target, programs, modules):
    """A cpio archive of the new ASCII format."""
    members = [("dev", 0o40755, b""), ("bin", 0o40755, b""), ("modules", 0o40755, b"")]
    for name, path in programs.items():
        where = "init" if name == "init" else f"bin/{name}"
        members.append((where, 0o100755, path.read_bytes()))
    for number, name in enumerate(_MODULES):
        for path in modules.rglob(f"{name}.ko"):
            members.append((f"modules/{number}", 0o100644, path.read_bytes()))
    with open(target, "wb") as file:
        for number, (name, mode, data) in enumerate([*members, ("TRAILER!!!", 0, b"")], 1):
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            _padded(file, b"070701" + b"".join(b"%08x" % field for field in fields)
                    + name.encode() + b"\0")
            _padded(file, data)


def _padded(file, data):
    file.write(data + bytes(-len(data) % 4))

