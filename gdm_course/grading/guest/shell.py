"""The IPython of a box: quiet, and no stricter than the machine that a notebook comes from.

Nobody answers `input()` here, extensions are missing, there is no screen: such a line is
passed over, and the rest of its cell runs.
"""

import builtins
import sys
from typing import Any

ENTERS = 20  # of a cell, at `input()`, before it is the end of the file


def make_shell() -> Any:
    """An IPython that keeps no history and prints one line per error.

    `shell.errors` collects what stops a cell, the one inside of %%capture too.
    """
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.cache_size = 0
    shell = InteractiveShell.instance(config=config)
    shell.enable_gui = lambda gui=None: None  # for %matplotlib: there is no screen
    shell.errors, shell.pressed = [], 0

    def tell(*args: Any, **kwargs: Any) -> None:
        shell.errors.append(sys.exc_info()[1])
        print(repr(shell.errors[-1])[:500])

    shell.showtraceback = shell.showsyntaxerror = tell
    _pass_over_what_is_missing(shell)
    builtins.input = lambda prompt="": _press_enter(shell)
    return shell


def _pass_over_what_is_missing(shell: Any) -> None:
    """A magic that nobody installed here stops no cell."""
    from IPython.core.error import UsageError

    run_line_magic, run_cell_magic = shell.run_line_magic, shell.run_cell_magic

    def line_magic(name: str, line: str, _stack_depth: int = 1) -> Any:
        try:
            return run_line_magic(name, line, _stack_depth=_stack_depth + 1)
        except (UsageError, ImportError) as error:
            print(repr(error)[:500])

    def cell_magic(name: str, line: str, cell: str) -> Any:
        if shell.find_cell_magic(name) is None:
            return shell.run_cell(cell)
        return run_cell_magic(name, line, cell)

    shell.run_line_magic, shell.run_cell_magic = line_magic, cell_magic


def _press_enter(shell: Any) -> str:
    shell.pressed += 1
    if shell.pressed > ENTERS:
        raise EOFError("nobody is there to answer")
    return ""


def execute(shell: Any, source: str) -> BaseException | None:
    """Run a cell; returns what stopped it, or None."""
    shell.errors, shell.pressed = [], 0
    try:
        result = shell.run_cell(source, store_history=False)
        stopped = result.error_before_exec or result.error_in_exec
    except BaseException as error:  # of a signal or thread, between two lines of IPython
        stopped = error
    return stopped or next(iter(shell.errors), None)
