"""What hangs on the loop: logging, evaluation, checkpoints, the live line, and reasons to stop.

Order matters and is `api`'s: evaluate, log, stop conditions, checkpoint (which stores what the others have written),
progress.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from rlkit.checkpoint import CheckpointStore, crash_point
from rlkit.evaluation import Evaluation
from rlkit.logs import EventFiles, JsonLines
from rlkit.loop import CONVERGED, Session
from rlkit.types import Metrics, State


class _Stateless:
    """A hook with no period of its own, nothing to set up, to finish or to remember."""

    every = 0

    def start(self, session: Session) -> None:
        """Nothing to set up."""

    def stop(self, session: Session) -> None:
        """Nothing to finish."""

    def state(self) -> State:
        """Nothing to remember."""
        return {}

    def load_state(self, state: State) -> None:
        """Nothing to restore."""


class Evaluate:
    """Every `every` env steps, and where the agent has converged: evaluate; keep the best policy in `best/`.

    Episodes are those of separate environments; `truth` adds what is known besides.
    """

    name = "evaluate"

    def __init__(
        self,
        every: int,
        evaluate: Callable[[], Evaluation],
        policy_state: Callable[[], State],
        best: CheckpointStore,
        truth: Callable[[], Metrics] = dict,
    ) -> None:
        self.every = every
        self._evaluate = evaluate
        self._policy_state = policy_state
        self._best = best
        self._truth = truth
        self.best_return: float | None = None
        self.last_return: float | None = None
        self.last_step: int | None = None  # env step of that evaluation

    def start(self, session: Session) -> None:
        """Nothing to set up."""

    def after_step(self, session: Session) -> None:
        """Evaluate if due."""
        concludes = session.stop_reason == CONVERGED and self.every > 0
        if not (session.crossed(self.every) or concludes):
            return
        crash_point("evaluate")
        result = self._evaluate()
        lengths = result.lengths
        session.evaluated = {
            "eval/mean_reward": result.mean,
            "eval/mean_ep_length": sum(lengths) / len(lengths),
            **self._truth(),
        }
        self.last_return, self.last_step = result.mean, session.step
        if self.best_return is None or result.mean > self.best_return:
            self.best_return = result.mean
            self._best.save(session.step, self._policy_state())

    def stop(self, session: Session) -> None:
        """Nothing to finish."""

    def state(self) -> State:
        """Best and last mean return, and the step of the last."""
        return {"best_return": self.best_return, "last_return": self.last_return, "last_step": self.last_step}

    def load_state(self, state: State) -> None:
        """Restore `state`."""
        self.best_return, self.last_return = state["best_return"], state["last_return"]
        self.last_step = state.get("last_step")  # checkpoints of rlkit 0.1.0 have none


class Log:
    """Every `every` steps, with evaluations and at the end: a point in `metrics.jsonl` and TensorBoard."""

    name = "log"

    def __init__(self, every: int, folder: Path) -> None:
        self.every = every
        self._json = JsonLines(folder)
        self._events = EventFiles(folder)
        self._logged = (0, 0.0)  # step and seconds of the last point

    def start(self, session: Session) -> None:
        """Open this process's event file."""
        self._logged = (session.step, session.seconds)
        self._events.start(session.step)

    def after_step(self, session: Session) -> None:
        """Write a point if due."""
        if session.crossed(self.every) or session.evaluated or session.stop_reason == CONVERGED:
            self._write(session)

    def _write(self, session: Session) -> None:
        values = self._values(session)
        self._json.write(session.step, values)
        crash_point("between-logs")
        self._events.write(session.step, values)
        session.evaluated = {}

    def _values(self, session: Session) -> dict[str, float]:
        values: dict[str, float] = {}
        if session.episodes:
            values["rollout/ep_rew_mean"] = sum(value for value, _ in session.episodes) / len(session.episodes)
            values["rollout/ep_len_mean"] = sum(length for _, length in session.episodes) / len(session.episodes)
        values |= session.metrics.take()
        values |= session.evaluated
        step, seconds = self._logged
        now = session.seconds
        self._logged = (session.step, now)
        return values | {"time/fps": (session.step - step) / max(now - seconds, 1e-9), "time/time_elapsed": now}

    def stop(self, session: Session) -> None:
        """Write what was measured since the last point, where the run is done, and close both files.

        The last checkpoint was saved before: a run that is extended forgets this point and repeats none.
        """
        if session.is_done and not session.metrics.is_empty:
            self._write(session)
        self._json.close()
        self._events.close()

    def state(self) -> State:
        """How much of each file belongs to the run up to now."""
        return {"json": self._json.state(), "events": self._events.state()}

    def load_state(self, state: State) -> None:
        """Cut both files back to `state`."""
        self._json.load_state(state["json"])
        self._events.load_state(state["events"])


class StopConditions(_Stateless):
    """Ends the run early: at a mean return, or after some seconds of training."""

    name = "stop"

    def __init__(self, evaluation: Evaluate | None, at_return: float | None, max_seconds: float | None) -> None:
        self._evaluation = evaluation
        self._at_return = at_return
        self._max_seconds = max_seconds
        self._started = 0.0

    def start(self, session: Session) -> None:
        """The time limit counts from here, so that a resumed run gets as much again."""
        self._started = session.seconds

    def after_step(self, session: Session) -> None:
        """Set the session's stop reason where a condition holds."""
        if self._max_seconds is not None and session.seconds - self._started >= self._max_seconds:
            session.stop_reason = f"time limit of {self._max_seconds:g} s"
        if self._at_return is not None and self._reached(session):
            session.stop_reason = f"mean return of {self._at_return:g} reached"

    def _reached(self, session: Session) -> bool:
        assert self._at_return is not None
        if self._evaluation is not None:
            value = self._evaluation.last_return
        else:
            value = session.mean_return() if len(session.episodes) == session.episodes.maxlen else None
        return value is not None and value >= self._at_return


class Checkpoints(_Stateless):
    """Every `every` env steps, at the first step and at the end: a checkpoint that the run can go on from."""

    name = "checkpoints"

    def __init__(self, every: int, store: CheckpointStore, state: Callable[[], tuple[State, State]]) -> None:
        self.every = every
        self._store = store
        self._state = state
        self._saved_step = -1

    def start(self, session: Session) -> None:
        """A checkpoint before the first step, so that a run killed early resumes too."""
        if session.last_checkpoint is None:
            self.save_if_new(session)
        self._saved_step = session.step

    def after_step(self, session: Session) -> None:
        """Save if due."""
        if session.crossed(self.every):
            self.save_if_new(session)

    def save_if_new(self, session: Session) -> None:
        """Write a checkpoint now, unless this step has one."""
        if session.step == self._saved_step:
            return
        policy, training = self._state()
        session.last_checkpoint = self._store.save(session.step, policy, training)
        self._saved_step = session.step


class ProgressLine(_Stateless):
    """One live line on a terminal; elsewhere a plain line every ten seconds and at the end."""

    name = "progress"

    def __init__(self, title: str, evaluation: Evaluate | None, stream: TextIO | None = None) -> None:
        self._title = title
        self._evaluation = evaluation
        self._console = Console(file=stream or sys.stderr)
        self._live: Live | None = None
        self._began = self._shown = (0.0, 0)  # seconds and step at the start, and when the line was last drawn
        self._rate = 0.0

    def start(self, session: Session) -> None:
        """Begin the line."""
        self._began = self._shown = (session.seconds, session.step)
        if self._console.is_terminal:
            self._live = Live(self._text(session), console=self._console, auto_refresh=False)
            self._live.start()

    def after_step(self, session: Session) -> None:
        """Draw again if some time has passed."""
        shown, step = self._shown
        seconds = session.seconds
        if seconds - shown < (0.25 if self._live else 10.0):
            return
        rate = (session.step - step) / (seconds - shown)
        self._rate = rate if not self._rate else 0.8 * self._rate + 0.2 * rate
        self._shown = (seconds, session.step)
        self._draw(session)

    def stop(self, session: Session) -> None:
        """The last line stays, with the mean speed of the whole session."""
        seconds, step = self._began
        if session.step > step:
            self._rate = (session.step - step) / max(session.seconds - seconds, 1e-9)
        self._draw(session)
        if self._live is not None:
            self._live.stop()

    def _draw(self, session: Session) -> None:
        if self._live is not None:
            self._live.update(self._text(session), refresh=True)
        else:
            self._console.print(self._text(session), soft_wrap=True)

    def _text(self, session: Session) -> Text:
        parts = [f"{self._title}  {session.step:,}/{session.total_steps:,} ({session.step / session.total_steps:.0%})"]
        if self._rate:
            left = max(session.total_steps - session.step, 0) / self._rate
            rate = f"{self._rate:,.0f}" if self._rate >= 10 else f"{self._rate:.1f}"
            parts.append(f"{rate} {session.unit.split()[-1]}s/s  {int(left) // 60}:{int(left) % 60:02d} left")
        mean_return = session.mean_return()
        if mean_return is not None:
            parts.append(f"return {mean_return:.1f}")
        if self._evaluation is not None and self._evaluation.last_return is not None:
            parts.append(f"evaluated {self._evaluation.last_return:.1f} (best {self._evaluation.best_return:.1f})")
        return Text("  ·  ".join(parts), no_wrap=True, overflow="ellipsis")


@contextmanager
def stop_on_signals(session: Session) -> Iterator[None]:
    """SIGINT and SIGTERM end the session after the current update; a second signal interrupts at once.

    Nothing is written inside the handlers: they only set the session's stop reason. Outside the main thread, where
    Python allows no handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request_stop(number: int, frame: FrameType | None) -> None:
        if session.stop_reason in INTERRUPTS:
            raise KeyboardInterrupt
        session.stop_reason = signal.Signals(number).name

    before = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


INTERRUPTS = {"SIGINT": 130, "SIGTERM": 143}
"""Exit code by stop reason."""
