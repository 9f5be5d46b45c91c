"""`targe iso`: one image that boots on BIOS and UEFI, through GRUB and multiboot2."""

import re
import subprocess
import tempfile
from pathlib import Path

from targe import archive, boot, manifest, packages, project
from targe.build import build
from targe.report import Failure, say

_GRUB = """serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
set default=0
menuentry "Targe" {{
    multiboot2 /boot/targe.elf {append}
    module2 /boot/archive.tar archive
}}
"""


def iso(options):
    """Builds and writes the image. Gives the exit status."""
    boot.check_site(options)
    if options.output:
        boot.check_output("--output", options.output)
    manifest.read(boot.manifest_file(options))
    packages.ensure("iso")
    build("release")
    parts, _ = boot.members(options, "release")
    output = Path(options.output) if options.output else project.BUILD / "targe.iso"
    write(parts, project.kernel("release"), output, options.append or "")
    say(f"wrote {output} ({output.stat().st_size >> 20} MB)")
    return 0


def write(parts, kernel, output, append=""):
    """Writes an image with this kernel and boot archive."""
    if not re.fullmatch(r"[\w =.,:/-]*", append):
        raise Failure("--append takes letters, digits and = . , : / - here")
    with tempfile.TemporaryDirectory(dir=project.BUILD) as folder:
        files = Path(folder, "boot")
        (files / "grub").mkdir(parents=True)
        (files / "grub" / "grub.cfg").write_text(_GRUB.format(append=append), encoding="ascii")
        (files / "targe.elf").write_bytes(Path(kernel).read_bytes())
        with open(files / "archive.tar", "wb") as file:
            archive.write(parts, file)
        made = subprocess.run(["grub-mkrescue", "-o", str(output), folder],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    if made.returncode != 0 or not output.is_file():
        lines = made.stdout.strip().splitlines() or ["no message"]
        raise Failure(f"grub-mkrescue failed: {lines[-1]}")
