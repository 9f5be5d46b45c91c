"""System tests: functions `test_NAME(ctx)` in tests/system/test_FILE.py, named system/FILE/NAME.

A test fails by an exception, mostly an AssertionError; it may raise Skip. `@limit(seconds)`
gives it more time than usual. What it opens through `ctx` is closed whatever happens.
"""

import ast
import contextlib
import importlib.util
import io
import signal
import time
import traceback

from harness.context import Context
from harness.outcome import FAIL, OK, SKIP, Outcome, Skip, TimeOut
from targe import project
from targe.build import build

_FOLDER = project.ROOT / "tests" / "system"
_SECONDS = 120


def limit(seconds):
    """Sets the time a test may take."""
    def mark(function):
        function.limit = seconds
        return function
    return mark


def _functions(file):
    """The test functions of a module, found without running it."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return [node.name for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


class SystemSuite:
    """All modules of tests/system."""
    folder = "system"

    def __init__(self):
        self._tests = {
            f"system/{file.stem.removeprefix('test_')}/{function.removeprefix('test_')}":
                (file, function)
            for file in sorted(_FOLDER.glob("test_*.py")) for function in _functions(file)}

    def names(self):
        """All tests, in the order of files and functions."""
        return list(self._tests)

    def prepare(self, _names):
        """Builds the machine that most tests use."""
        build("release")

    def run(self, names):
        """Runs the chosen tests."""
        modules = {}
        for name in names:
            file, function = self._tests[name]
            if file not in modules:
                modules[file] = _load(file)
            yield _run(name, getattr(modules[file], function))


def _load(file):
    spec = importlib.util.spec_from_file_location(f"system_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(name, function):
    """Runs one test under its time limit; what it opened is closed after it."""
    began = time.monotonic()
    seconds = getattr(function, "limit", _SECONDS)
    status, text = OK, ""
    # What the command's modules have to say belongs to the test, not to the list of results.
    said = io.StringIO()
    with Context(name) as context, contextlib.redirect_stderr(said):
        try:
            with _alarm(seconds):
                function(context)
        except Skip as reason:
            status, text = SKIP, str(reason)
        except TimeOut:
            status, text = FAIL, f"no end within {seconds} s\n{_where()}"
        except Exception:
            status, text = FAIL, _where()
        if status == FAIL:
            text += f"\n{said.getvalue()}{context.console_tails()}"
    return Outcome(name, status, time.monotonic() - began, text)


@contextlib.contextmanager
def _alarm(seconds):
    """Raises TimeOut in the test when its time is over."""
    def expired(*_):
        raise TimeOut

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _where():
    """The present exception, without the harness's own frames."""
    return "\n".join(line for line in traceback.format_exc().splitlines()
                     if line and not line.startswith("Traceback"))
