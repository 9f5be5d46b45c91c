"""Choosing between KVM and TCG.

/dev/kvm may open and still not run a guest, so guests are run. First a ROM whose first instruction
writes to the exit device: only the exit status that follows proves that KVM works. Some KVMs
(those that are themselves in a machine without nesting) run that and no more, so the second guest is
Targe with a program that makes one call and ends.
"""

import os
import subprocess
import tempfile

from targe import archive, project
from targe.report import Failure, say

QEMU = "qemu-system-x86_64"
EXIT_DEVICE = "isa-debug-exit,iobase=0xf4,iosize=4"
_SECONDS = 5
_TARGE_SECONDS = 4
_TARGE_DONE = b"META\tdone"
_VALUE = 0x2a
_ROM_SIZE = 64 * 1024
# 16 bytes before 4 GiB, where a processor begins: mov al,VALUE; mov dx,0xf4; out dx,al;
# 1: hlt; jmp 1b
_CODE = bytes([0xb0, _VALUE, 0xba, 0xf4, 0x00, 0xee, 0xf4, 0xeb, 0xfd])


def choose(wanted, variant):
    """Turns auto, kvm or tcg into kvm or tcg. The variant must have been built."""
    if wanted == "tcg":
        return wanted
    problem = kvm_problem(variant)
    if problem is None:
        return "kvm"
    if wanted == "kvm":
        raise Failure(f"KVM does not work: {problem}")
    say(f"KVM does not work ({problem}): using TCG, which is slower")
    return "tcg"


def kvm_problem(variant):
    """Why KVM cannot be used, or None if it runs this variant of Targe."""
    return _rom_problem() or _targe_problem(variant)


def _targe_problem(variant):
    parts = archive.boot_members(project.programs(variant)["bench.elf"], b"", {})
    with tempfile.TemporaryFile(dir=project.BUILD) as file:
        archive.write(parts, file)
        try:
            probe = subprocess.run(
                [QEMU, "-machine", "pc", "-accel", "kvm", "-cpu", "max", "-m", "64M", "-display",
                 "none", "-nodefaults", "-no-user-config", "-no-reboot", "-device", EXIT_DEVICE,
                 "-serial", "stdio", "-kernel", str(project.kernel(variant)), "-initrd",
                 f"/dev/fd/{file.fileno()}", "-append", "rows=null_call samples=1"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                pass_fds=[file.fileno()], timeout=_TARGE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"a tiny guest runs, but Targe does not end within {_TARGE_SECONDS} s"
    return None if _TARGE_DONE in probe.stdout else "a tiny guest runs, but Targe does not"


def _rom_problem():
    if not os.path.exists("/dev/kvm"):
        return "there is no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "no right to open /dev/kvm"
    rom = bytearray(_ROM_SIZE)
    rom[-16:-16 + len(_CODE)] = _CODE
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(rom)
        file.flush()
        try:
            probe = subprocess.run(
                [QEMU, "-machine", "pc", "-accel", "kvm", "-cpu", "max", "-m", "16",
                 "-bios", file.name, "-display", "none", "-nodefaults", "-no-user-config",
                 "-no-reboot", "-device", EXIT_DEVICE],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"a tiny guest did not end within {_SECONDS} s"
        except OSError as error:
            raise Failure(f"cannot run {QEMU}: {error.strerror}") from error
    if probe.returncode != _VALUE << 1 | 1:
        return "a tiny guest did not run"
    return None
