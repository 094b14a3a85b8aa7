"""A bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress_bar(
    total: int | None, what: str, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` are done, how fast, and the time left.

    Args:
        total: how many there are; None if nobody knows.
        what: they are.
        console: where to; None: standard error. Nothing is shown if it is no terminal.

    Yields:
        what is to be called with each number of new ones.
    """
    import rich.console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Counted(ProgressColumn):
        def render(self, task: Task) -> Any:
            of = "" if task.total is None else f"/{task.total:,.0f}"
            rate = task.finished_speed or task.speed
            return Text(f"{task.completed:,.0f}{of}" + (f"  {rate:,.1f}/s" if rate else ""))

    console = console or rich.console.Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), Counted(), TimeRemainingColumn())
    shown = console.is_terminal
    with Progress(
        *columns, console=console, disable=not shown, redirect_stdout=False, redirect_stderr=shown
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)
