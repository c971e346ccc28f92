"""How a long training is followed on stderr."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fastsnn_deploy.errors import legible

TENTHS = 10


class TrainingBar:
    """A bar on a terminal, with the last epoch's loss and accuracy; a line for each tenth there and in a pipe.

    Args:
        title: what is done, before the first epoch is over.
        shown: False to stay silent.
    """

    def __init__(self, title: str, shown: bool = True) -> None:
        self.console, self.shown, self.title = Console(stderr=True), shown, title
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("ETA"), TimeRemainingColumn(),
        )  # fmt: skip
        silent = not (shown and self.console.is_terminal)
        self.bar = Progress(*columns, console=self.console, transient=True, disable=silent)
        self.task = self.bar.add_task(title, total=None)
        self.tenths, self.due = 0, False

    def __enter__(self) -> TrainingBar:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def advance(self, done: int, total: int) -> None:
        """After every step."""
        self.bar.update(self.task, completed=done, total=total)
        if self.due:  # the tenth ended inside an epoch
            self._line(f"{self.title}: {TENTHS * self.tenths} %")
        if TENTHS * done // max(total, 1) > self.tenths:
            self.tenths, self.due = TENTHS * done // max(total, 1), True

    def epoch(self, line: str) -> None:
        """After every epoch: which one, its loss and its accuracy."""
        self.bar.update(self.task, description=legible(line))
        if self.due:
            self._line(line)

    def say(self, line: str) -> None:
        """Something that must be read."""
        if self.shown:
            self.console.print(legible(line), highlight=False, markup=False, soft_wrap=True)

    def _line(self, line: str) -> None:
        self.due = False
        self.say(line)
