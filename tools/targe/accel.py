"""Choosing between KVM and TCG.

/dev/kvm may open and still not run a guest, so a guest is run: a ROM whose first instruction
writes to the exit device. Only the exit status that follows proves that KVM works.
"""

import os
import subprocess
import tempfile

from targe.report import Failure, say

QEMU = "qemu-system-x86_64"
EXIT_DEVICE = "isa-debug-exit,iobase=0xf4,iosize=4"
_SECONDS = 5
_VALUE = 0x2a
_ROM_SIZE = 64 * 1024
# 16 bytes before 4 GiB, where a processor begins: mov al,VALUE; mov dx,0xf4; out dx,al;
# 1: hlt; jmp 1b
_CODE = bytes([0xb0, _VALUE, 0xba, 0xf4, 0x00, 0xee, 0xf4, 0xeb, 0xfd])


def choose(wanted):
    """Turns auto, kvm or tcg into kvm or tcg."""
    if wanted == "tcg":
        return wanted
    problem = kvm_problem()
    if problem is None:
        return "kvm"
    if wanted == "kvm":
        raise Failure(f"KVM does not work: {problem}")
    say(f"KVM does not work ({problem}): using TCG, which is slower")
    return "tcg"


def kvm_problem():
    """Why KVM cannot be used, or None if it runs a guest."""
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
