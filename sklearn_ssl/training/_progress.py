"""Progress of a training: by its steps, or by the time that there is for it."""

import time

from sklearn_ssl._utils._ranks import current_ranks

__all__ = ["Progress"]


class Progress:
    """Share of a training that is done.

    Parameters
    ----------
    steps : int
        All steps, of a training without ``seconds``.
    seconds : float, optional
        From when this is made.

    Attributes
    ----------
    done : int
        Steps so far.
    """

    def __init__(self, steps: int, seconds: float | None = None):
        self.done = 0
        self.steps = steps if seconds is None else None
        self.seconds = seconds
        self.began = time.monotonic()
        self.first = 0, 0.0  # steps and seconds when the first step of this process began

    def resume(self, steps: int, seconds: float) -> None:
        """Go on after ``steps`` steps, which took ``seconds`` seconds."""
        self.done = steps
        self.began -= seconds

    def start(self) -> None:
        """Note that the first step begins."""
        self.first = self.done, time.monotonic() - self.began

    @property
    def share(self) -> float:
        """Share of the training that is done, from 0 to 1."""
        return self._share(0.0)

    @property
    def middle(self) -> float:
        """Share at the middle of the next step: neither the first nor the last has an lr of 0."""
        return self._share(0.5)

    @property
    def is_over(self) -> bool:
        """Return whether less than half a step is left."""
        return self.middle >= 1

    def _share(self, steps_more: float) -> float:
        if self.seconds is None:
            return (self.done + steps_more) / (self.steps or 1)
        spent = current_ranks().first(lambda: time.monotonic() - self.began)
        done, before = self.first
        a_step = (spent - before) / (self.done - done) if self.done > done else 0.0
        return min(1.0, (spent + steps_more * a_step) / self.seconds)
