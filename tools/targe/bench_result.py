"""One line of the tables of `targe bench`."""

from dataclasses import dataclass


@dataclass
class Result:
    """A row's figures by one measure. None: the system has no such row."""
    row: str
    unit: str
    measure: str
    linux: float = None
    targe: float = None
    goal: float = None
    paper: float = None
    group: str = ""
    spread: str = ""
    at_least: bool = False  # the goal is the least, not the most

    @property
    def ratio(self):
        """How many times more Linux needs."""
        return self.linux / self.targe if self.linux and self.targe else None

    @property
    def met(self):
        """Whether the goal is met; None: there is none."""
        if self.goal is None or self.targe is None:
            return None
        return self.targe >= self.goal if self.at_least else self.targe <= self.goal
