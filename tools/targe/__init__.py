"""The `targe` command: builds the machine, runs it under QEMU, tests and packs it.

Standard library only. Modules, from the bottom up: report (messages), project (paths),
packages (apt), manifest and archive (what the machine boots), accel and machine (QEMU),
console (the terminal), build, run, debug, iso, tests (one module a command), cli.
"""
