"""The user's terminal as the machine's console.

While it is open, keys go to the machine as they are typed; Ctrl-C still is a signal for the
command. The terminal is put back as it was in any case.
"""

import os
import select
import sys
import termios


class Terminal:
    """Standard input in single-key mode, if it is a terminal."""

    def __init__(self):
        self._saved = None

    def __enter__(self):
        if sys.stdin is not None and sys.stdin.isatty():
            self._saved = termios.tcgetattr(sys.stdin)
            mode = termios.tcgetattr(sys.stdin)
            mode[0] &= ~(termios.ICRNL | termios.IXON)
            mode[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
            # Ctrl-Z and Ctrl-\ are for the machine: a suspended command would leave it running.
            mode[6][termios.VSUSP] = mode[6][termios.VQUIT] = b"\0"
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_):
        if self._saved is not None:
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, self._saved)


def show(data):
    """Prints the machine's output as it is."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def attend(machine, keys):
    """Returns when the machine has ended; until then passes on what is typed, if `keys`."""
    ended = os.pidfd_open(machine.pid)
    try:
        sources = [ended] + ([sys.stdin.fileno()] if keys else [])
        while True:
            ready = select.select(sources, [], [])[0]
            if ended in ready:
                return
            data = os.read(sources[1], 4096)
            if data:
                machine.write(data)
            else:
                sources.pop()
    finally:
        os.close(ended)
