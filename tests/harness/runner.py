"""Choosing tests, running them one after the other, and the account at the end."""

import argparse
import re
import shutil
import signal
import sys

from harness.bochs import BochsSuite
from harness.guest import GuestSuite
from harness.host import HostSuite
from harness.outcome import FAIL, OK, SKIP, Outcome
from harness.system import SystemSuite
from targe import project
from targe.report import Failure, Stopped

_MARKS = {OK: "ok  ", FAIL: "FAIL", SKIP: "skip"}


def main(arguments):
    """Runs the command line. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="targe test")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--bochs", action="store_true")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    account = {OK: 0, FAIL: 0, SKIP: 0}
    try:
        return _run(options, account)
    except Failure as failure:
        print(f"targe: {failure}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped):
        print("\ntarge: broken off", file=sys.stderr)
        _total(account)
        return 130


def _stop(*_):
    raise Stopped


def _run(options, account):
    suites = [BochsSuite()] if options.bochs else [HostSuite(), GuestSuite(), SystemSuite()]
    chosen = [(suite, _choose(suite.names(), options.names)) for suite in suites]
    for wanted in options.names:
        if not any(_choose(names, [wanted]) for _, names in chosen):
            raise Failure(f"no test is called '{wanted}' (see ./targe test --list)")
    if options.list:
        print("\n".join(name for _, names in chosen for name in names))
        return 0
    shutil.rmtree(project.ARTIFACTS, ignore_errors=True)
    project.ARTIFACTS.mkdir(parents=True)
    for suite, names in chosen:
        if names and not _run_suite(suite, names, account) and not options.keep_going:
            break
    _total(account)
    return 0 if account[OK] and not account[FAIL] else 1


def _run_suite(suite, names, account):
    """Runs the tests of one suite; gives whether it could be built."""
    try:
        suite.prepare(names)
    except Failure as failure:
        _report(Outcome(f"{suite.folder}/build", FAIL, 0, str(failure)), account)
        return False
    for outcome in suite.run(names):
        _report(outcome, account)
    return True


def _report(outcome, account):
    account[outcome.status] += 1
    print(f"{_MARKS[outcome.status]} {outcome.seconds:7.1f} s  {outcome.name}", flush=True)
    if outcome.text and outcome.status != OK:
        for line in outcome.text.rstrip().splitlines():
            print(f"        {line}", flush=True)


def _total(account):
    skipped = f", {account[SKIP]} skipped" if account[SKIP] else ""
    print(f"{account[OK]} passed, {account[FAIL]} failed{skipped}", flush=True)


def _choose(names, wanted):
    """The names that are meant by any of the wanted ones; all if none is wanted."""
    if not wanted:
        return names
    keys = [_plain(word) for word in wanted]
    return [name for name in names if any(_means(key, name) for key in keys)]


def _means(key, name):
    """A key is a name or a folder of names, for guest tests with or without @CONFIGURATION."""
    key, _, wanted = key.partition("@")
    test, _, configuration = name.partition("@")
    return (test == key or test.startswith(key + "/")) and wanted in ("", configuration)


def _plain(word):
    """Files are accepted too: tests/system/test_http.py is system/http."""
    word = re.sub(r"^(\./)?tests/|/$", "", word)
    word = re.sub(r"\.(py|c)$", "", word)
    return re.sub(r"(^|/)test_", r"\1", word)
