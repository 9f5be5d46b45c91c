"""The command line: options, and which module does what."""

import argparse
import os
import signal
import subprocess
import sys

from targe import packages, project
from targe.build import build, clean
from targe.machine import MACHINES
from targe.report import Failure, Stopped

_HELP = """Targe: an exokernel with library operating systems, run under QEMU.

    ./targe run      install what is missing, build, boot, serve http://127.0.0.1:8080
    ./targe test     install what is missing, build, run every test
    ./targe build    build the kernel and all programs; `build host`: tools of the host
    ./targe debug    boot a debug build under gdb
    ./targe bench    the same rows on Targe and on Linux, side by side
    ./targe iso      write build/targe.iso, which boots on BIOS and UEFI
    ./targe code     verify a program for the kernel's virtual machine, and show it
    ./targe filter   turn an expression like tcpdump's into a condition for a flow
    ./targe clean    remove build/
    ./targe help     this text

Options of run and debug:
    --site DIR         serve the files of this folder (default: site/)
    --port N           port on 127.0.0.1 for the site (8080); the next one is the monitor's
    --smp N            CPUs (1)
    --memory SIZE      memory, such as 512M or 2G (default: what the site needs)
    --accel MODE       auto, kvm or tcg (auto)
    --machine NAME     q35, pc or microvm (q35)
    --manifest FILE    which environments to start (libos/init/manifest)
    --net MODE         user, tap=NAME or none (user)
    --screen WHERE     a display that library OSes may draw on, shown by VNC (127.0.0.1:0; none)
    --pcap FILE        write all frames to this file
    --append TEXT      the kernel's command line
    --headless         run: no console, for scripts
    --batch FILE       debug: run this gdb script and end
Options of build:
    --variant NAME     release, debug or ubsan (release)
Options of code FILE.o:
    --profile NAME     predicate, handler ... (default: the section's name, or handler)
    --section NAME     the program's section (default: the first with instructions)
Options of filter 'EXPRESSION':
    --pcap FILE        count the frames in this file that satisfy it
Options of iso:
    --site DIR, --manifest FILE, --append TEXT, --output FILE
Options of test:
    NAME or FOLDER ...  only these, such as `system/http`, `guest`
    --list              name the tests, run none
    --bochs             run the guest tests under Bochs instead: PCID, x2APIC, TSC deadline
    --keep-going        run every test even if a build or a whole folder fails
Options of bench:
    GROUP ...           only these rows: exceptions memory ipc processor network web size
    --quick             instructions only, few samples
    --json FILE         write the figures to this file
    --docs              put table and plot into docs/performance.md
    --breakdown ROW     where the instructions of one of Targe's rows go, function by function

On the console, Ctrl-C ends the machine, as do the monitor's `poweroff` and `reset`.
docs/running.md has examples.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        raise Failure(f"{message} (see ./targe help)")


def _parser():
    parser = _Parser(prog="targe", add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)

    def add(name, *option_groups):
        command = commands.add_parser(name, add_help=False, allow_abbrev=False)
        command.add_argument("--help", "-h", action="store_true")
        for group in option_groups:
            group(command)

    add("run", _content_options, _machine_options,
        lambda run: run.add_argument("--headless", action="store_true"))
    add("debug", _content_options, _machine_options,
        lambda debug: debug.add_argument("--batch"))
    add("iso", _content_options, lambda iso: iso.add_argument("--output"))
    add("build", _build_options)
    add("code", _code_options)
    add("filter", _filter_options)
    add("test", _test_options)
    add("bench", _bench_options)
    add("clean")
    add("help", lambda help_: help_.add_argument("about", nargs="*"))
    return parser


def _content_options(parser):
    parser.add_argument("--site")
    parser.add_argument("--manifest")
    parser.add_argument("--append")


def _machine_options(parser):
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--smp", type=int, default=1)
    parser.add_argument("--memory")
    parser.add_argument("--accel", default="auto", choices=("auto", "kvm", "tcg"))
    parser.add_argument("--machine", default="q35", choices=MACHINES)
    parser.add_argument("--net", default="user")
    parser.add_argument("--pcap")
    parser.add_argument("--screen")


def _build_options(parser):
    parser.add_argument("goal", nargs="?", choices=("host",))
    parser.add_argument("--variant", default="release", choices=("release", "debug", "ubsan"))


def _code_options(parser):
    parser.add_argument("file")
    parser.add_argument("--profile")
    parser.add_argument("--section")


def _filter_options(parser):
    parser.add_argument("expression")
    parser.add_argument("--pcap")


def _test_options(parser):
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--bochs", action="store_true")


def _bench_options(parser):
    parser.add_argument("groups", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--breakdown")


def _build(options):
    packages.ensure("build")
    build(options.variant, [options.goal] if options.goal else ())
    return 0


def _test(options):
    if not options.list:
        packages.ensure("bochs" if options.bochs else "test")
    words = [sys.executable, "-B", str(project.ROOT / "tests" / "run.py"), *options.names]
    words += ["--list"] * options.list + ["--keep-going"] * options.keep_going
    words += ["--bochs"] * options.bochs
    sys.stdout.flush()
    os.execv(words[0], words)


def _dispatch(options):
    if options.help or options.command in (None, "help"):
        print(_HELP, end="")
        return 0 if options.help or options.command else 1
    if options.command == "clean":
        clean()
        return 0
    # A command's module is loaded only when it is used: `help` must always work.
    if options.command == "run":
        from targe.run import run
        return run(options)
    if options.command == "bench":
        from targe.bench import bench
        return bench(options)
    if options.command == "code":
        from targe.code import code
        return code(options)
    if options.command == "filter":
        from targe.filter import filter_
        return filter_(options)
    if options.command == "debug":
        from targe.debug import debug
        return debug(options)
    if options.command == "iso":
        from targe.iso import iso
        return iso(options)
    return {"build": _build, "test": _test}[options.command](options)


def _stop(*_):
    raise Stopped


def main(arguments):
    """Runs a command. Gives the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    # Ctrl-C must end the command even if it was started in the background of a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _dispatch(_parser().parse_args(arguments))
    except Failure as failure:
        print(f"targe: {failure}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped):
        print("\ntarge: broken off", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"targe: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"targe: {error}", file=sys.stderr)
        return 1
