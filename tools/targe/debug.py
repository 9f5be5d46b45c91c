"""`targe debug`: the machine stopped at its first instruction, with gdb attached.

gdb talks to QEMU through a socket in a folder of its own, which nobody else can open. The
console's output goes to a file, for gdb needs the terminal.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from targe import boot, packages, project
from targe.build import build
from targe.machine import Machine
from targe.report import Failure, say

_VARIANT = "debug"
_LOG = project.BUILD / "debug-console.log"


def debug(options):
    """Builds the debug variant and runs gdb on it. Gives gdb's exit status."""
    boot.check(options)
    if options.batch and not Path(options.batch).is_file():
        raise Failure(f"there is no gdb script {options.batch}")
    packages.ensure("debug")
    build(_VARIANT)
    config, _ = boot.prepare(options, _VARIANT)
    with config.archive, tempfile.TemporaryDirectory(prefix="targe-") as folder, \
            open(_LOG, "wb", buffering=0) as log:
        config.gdb_socket = os.path.join(folder, "gdb")
        script = Path(folder, "start.gdb")
        script.write_text(_script(config.gdb_socket), encoding="utf-8")
        with Machine(config, log.write) as machine:
            _wait_for(config.gdb_socket, machine)
            say(f"the console's output goes to {_LOG.relative_to(project.ROOT)}; "
                "`programs` in gdb tells how to load a program's symbols")
            words = ["gdb", "-q", "-nx", "-x", str(script)]
            if options.batch:
                words += ["-batch", "-x", options.batch]
            return subprocess.run(words, check=False).returncode


def _wait_for(path, machine):
    while not os.path.exists(path):
        if not machine.running():
            raise Failure(f"the machine did not start: {machine.why()}")
        time.sleep(0.02)


def _script(gdb_socket):
    """What gdb does first: the kernel's symbols, the connection, hints for programs."""
    hints = "\n".join(f"  echo add-symbol-file {path}\\n"
                      for path in project.programs(_VARIANT).values())
    return f"""set pagination off
set confirm off
set architecture i386:x86-64
file {project.kernel(_VARIANT)}
target remote {gdb_socket}
define programs
  echo Every program has its own space; load the symbols of one at a time:\\n
{hints}
end
document programs
Tells how to load the symbols of a program beside those of the kernel.
end
"""
