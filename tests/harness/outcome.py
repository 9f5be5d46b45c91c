"""What became of one test."""

from dataclasses import dataclass

OK, FAIL, SKIP = "ok", "FAIL", "skip"


@dataclass
class Outcome:
    """`text` says why a test failed or was skipped, with what it printed."""
    name: str
    status: str
    seconds: float = 0.0
    text: str = ""


class Skip(Exception):
    """Raised by a test that this machine cannot run; says why."""


class TimeOut(Exception):
    """Raised in a test that has used up its time."""
