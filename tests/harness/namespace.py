"""A network namespace with a tap device, for one test. Without the right to make one, the test is skipped."""

from harness.outcome import Skip
from targe.network import GUEST, HOST, TAP, Network
from targe.report import Failure

__all__ = ["GUEST", "HOST", "TAP", "Namespace"]


class Namespace(Network):
    """A context manager. `prefix` runs a command inside."""

    def __enter__(self):
        try:
            return super().__enter__()
        except Failure as error:
            raise Skip(f"no network namespace with a tap device: {error}") from error
