"""Ctrl-C, told from the KeyboardInterrupt by which skorch's callbacks end a training."""

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["interrupts_noted"]


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """A list that is not empty once Ctrl-C was pressed; it acts as it would have all the same."""
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):  # Python runs handlers in the main thread only
        yield noted
        return

    def note(number, frame):
        noted.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
