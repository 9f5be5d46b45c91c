"""Messages: what the command says, on standard error, and the errors that end it.

A Failure is for the user: one line that says what is wrong and, if possible, what to do.
"""

import shutil
import sys


class Failure(Exception):
    """Ends the command with one line and a non-zero exit status."""


class Stopped(BaseException):
    """A signal asked the command to end. Not an Exception: nothing but `finally` handles it."""


def say(text):
    """One line of news."""
    print(f"targe: {text}", file=sys.stderr, flush=True)


class Progress:
    """A line that is overwritten as work goes on; on a file or pipe only its title is printed."""

    def __init__(self, title):
        self.title = title
        self.live = sys.stderr.isatty()
        if not self.live:
            say(title)

    def show(self, detail):
        """Shows what is being done now."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            line = f"targe: {self.title}: {detail}"[:width]
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def done(self, result):
        """Replaces the line by its result."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr)
        say(result)

    def clear(self):
        """Removes the line."""
        if self.live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
