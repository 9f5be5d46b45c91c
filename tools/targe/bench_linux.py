"""The other side of `targe bench`: Debian's cloud kernel, unpacked and not installed, and an
initramfs with the programs of bench/linux.

The kernel is Linux at its best: nothing that guards against faults of the processor or of the
kernel itself, no accounting, no security modules. Everything is below build/bench/linux.
"""

import os
import re
import shutil
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
_EXECUTABLE, _FILE = 0o100755, 0o100644
APPEND = ("console=ttyS0 quiet panic=-1 mitigations=off nokaslr init_on_alloc=0 "
          "randomize_kstack_offset=off lsm=capability audit=0 cgroup_disable=memory "
          "hardened_usercopy=off noautogroup preempt=none nowatchdog")


class Linux:
    """A kernel and what it boots into, ready to be booted."""

    def __init__(self):
        self.kernel, modules = _kernel()
        self.version = self.kernel.name.removeprefix("vmlinuz-")
        self._members = [_folder("dev"), _folder("bin"), _folder("modules"),
                         ("init", _EXECUTABLE, _program("init")),
                         *((f"bin/{name}", _EXECUTABLE, _program(name))
                           for name in ("bench", "hello", "netserv"))]
        for number, name in enumerate(_MODULES):
            self._members += [(f"modules/{number}", _FILE, path)
                              for path in modules.rglob(f"{name}.ko")]
        self._more = {"xdp": _xdp_members, "nginx": _nginx_members}
        self._files = {}

    def initramfs(self, mode):
        """The initramfs for what init is to do."""
        key = mode if mode in self._more else "plain"
        if key not in self._files:
            members = self._more[key]() if key in self._more else []
            self._files[key] = FOLDER / f"initramfs-{key}"
            _write_initramfs(self._files[key], self._members + members)
        return self._files[key]


def _folder(name):
    return name, 0o40755, None


def _xdp_members():
    """The program for the driver, and what loads it."""
    compiled, program = FOLDER / "xdp.o", FOLDER / "xdp"
    _compile("clang", _SOURCES / "xdp.c", compiled, "-target", "bpf", "-c")
    # Only the instructions: there is nothing to relocate.
    subprocess.run(["objcopy", "-I", "elf64-little", "-O", "binary", "-j", "xdp", str(compiled),
                    str(program)], check=True)
    return [("bin/attach", _EXECUTABLE, _program("attach")), ("bin/xdp", _FILE, program)]


def _nginx_members():
    """Debian's nginx, unpacked and not installed, with the libraries that it needs."""
    root = FOLDER / "nginx"
    binary = root / "usr" / "sbin" / "nginx"
    if not root.exists():
        libraries = re.findall(r"Depends: (z?lib[\w.+-]+)", _depends("nginx"))
        _unpack(root, ["nginx", *libraries])
    members = [_folder(name) for name in (
        "etc", "lib", "lib64", "usr", "usr/sbin", "usr/share", "usr/share/nginx", "var", "var/log",
        "var/log/nginx", "var/lib", "var/lib/nginx")]
    members += [("etc/nginx.conf", _FILE, _SOURCES / "nginx.conf"),
                ("etc/passwd", _FILE, b"nobody:x:1:1::/:\n"),
                ("etc/group", _FILE, b"nogroup:x:1:\n"),
                ("usr/sbin/nginx", _EXECUTABLE, binary)]
    for path in _libraries(root, binary):
        # The loader is among them; it has to be executable.
        folder = "lib64" if path.name.startswith("ld-") else "lib"
        members.append((f"{folder}/{path.name}", _EXECUTABLE, path))
    return members


def _libraries(root, program):
    """The files of all libraries that a program needs."""
    found, wanted = {}, [program]
    while wanted:
        listed = subprocess.run(["readelf", "-d", str(wanted.pop())], stdout=subprocess.PIPE,
                                text=True, check=True).stdout
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", listed):
            files = [path for path in root.rglob(name) if path.exists()]
            if not files:
                raise Failure(f"nginx needs {name}, which is in none of its packages")
            if name not in found:
                found[name] = files[0]
                wanted.append(files[0])
    return found.values()


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
    """Compiles a source that is newer than what was made of it."""
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
    if not root.exists():
        _unpack(root, [_image_package()])
    found = sorted(root.glob("boot/vmlinuz-*"))
    version = found[0].name.removeprefix("vmlinuz-")
    return found[0], root / "lib" / "modules" / version / "kernel"


def _unpack(root, packages):
    """Downloads packages and unpacks them to a folder, which exists only when it is complete."""
    new = root.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name in packages:
        package = _download(name)
        subprocess.run(["dpkg-deb", "-x", str(package), str(new)], check=True)
        package.unlink()
    new.rename(root)
    say(f"unpacked {', '.join(packages)}")


def _depends(package):
    """What apt says that a package depends on."""
    return subprocess.run(["apt-cache", "depends", package], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False,
                          env=dict(os.environ, LC_ALL="C")).stdout


def _image_package():
    """The package that the newest cloud kernel is in."""
    match = _IMAGE.search(_depends(_PACKAGE))
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


def _write_initramfs(target, members):
    """A cpio archive of the new ASCII format. Members: name, mode, and a file, bytes or None."""
    with open(target, "wb") as file:
        for number, (name, mode, what) in enumerate([*members, ("TRAILER!!!", 0, None)], 1):
            data = what if isinstance(what, bytes) else what.read_bytes() if what else b""
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            _padded(file, b"070701" + b"".join(b"%08x" % field for field in fields)
                    + name.encode() + b"\0")
            _padded(file, data)


def _padded(file, data):
    file.write(data + bytes(-len(data) % 4))

