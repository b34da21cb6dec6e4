"""The supervisor of all motion: it owns the velocity output, and no command goes around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from v2w.safety import camera, checks, odometry
from v2w.safety.camera import CameraState, Look
from v2w.safety.checks import ClockState, Facts, PlanOrigin, SafetySettings
from v2w.safety.limits import STOP, Twist
from v2w.safety.odometry import OdometryState, Pose

#: Commands that are kept for comparing them with the motion [ns].
KEPT_NS = 12 * checks.NS


class VelocityOutput(Protocol):
    """Where velocity commands go."""

    def publish(self, twist: Twist) -> None:
        """Send one command: (m/s, m/s, rad/s) in the body frame."""

    def publish_last(self, twist: Twist) -> None:
        """Send a command, and wait a little until its receivers have confirmed it."""

    def report_executing(self, executing: bool) -> None:
        """Say whether a plan is being driven."""

    def report_stop(self, reason: str) -> None:
        """Say why a plan was given up."""


def steady_ns() -> int:
    """A clock that nothing sets and that goes on while the machine sleeps [ns]."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if number is None else time.clock_gettime_ns(number)


class SafetySupervisor:
    """Passes commands on that every check allows, and sends a stop instead of others.

    Every method may be called from any thread. Nothing here depends on the node's clock but the
    checks of stamps.

    Args:
        output: gets the commands.
        ros_clock: the node's time [ns].
        clock: the steady time [ns].

    Attributes:
        settings: may be replaced at any time.
        stopped_because: why the last plan was given up; empty since a plan was begun.
    """

    def __init__(
        self,
        output: VelocityOutput,
        ros_clock: Callable[[], int],
        clock: Callable[[], int] = steady_ns,
        settings: SafetySettings | None = None,
    ) -> None:
        self.settings = settings or SafetySettings()
        self.stopped_because = ""
        self._output, self._ros_clock, self._clock = output, ros_clock, clock
        self._lock = threading.RLock()
        self._camera, self._odometry = CameraState(), OdometryState()
        self._time = ClockState()
        self._commands: list[tuple[int, Twist]] = []
        self._publishers = self._also = ""
        self._num_stops = 0
        self._not_valid = self._beyond_limits = ""

    # -- what happens ---------------------------------------------------------------------------

    def saw_frame(self, look: Look, stamp_ns: int) -> bool:
        """A camera frame came. Returns whether it can be used."""
        with self._lock:
            ahead_s = (stamp_ns - self._ros_clock()) / checks.NS
            if ahead_s > self.settings.odometry.max_ahead_s and not look.problem:
                problem = f"the picture is stamped {ahead_s:.2f} s ahead of the clock"
                self._camera = replace(self._camera, problem=problem)
                return False
            self._camera = camera.seen(
                self._camera, look, stamp_ns, self._clock(), self._odometry.planar,
                self.settings.camera,
            )  # fmt: skip
            return not look.problem

    def saw_odometry(
        self, stamp_ns: int, pose: tuple[float, float, float, float], frame: str
    ) -> bool:
        """An odometry message came: (x m, y m, z m, yaw rad). Returns whether it can be used."""
        with self._lock:
            before = self._odometry.num_refused
            self._odometry = odometry.seen(
                self._odometry, pose, stamp_ns, self._clock(), self._ros_clock(), frame,
                self.settings.odometry,
            )  # fmt: skip
            return self._odometry.num_refused == before

    def refuse_odometry(self, reason: str) -> None:
        """An odometry message came that has no pose."""
        with self._lock:
            self._odometry = odometry.refused(self._odometry, reason)

    def saw_publishers(self, problem: str, also: str = "") -> None:
        """Who else sends commands.

        Args:
            problem: why it must not drive; empty when it may.
            also: who else may send commands as well; empty for nobody.
        """
        with self._lock:
            self._publishers, self._also = problem, also

    def look_at_clock(self) -> None:
        """Called with every command, also while nothing is driven."""
        with self._lock:
            self._time = checks.look_at_clock(
                self._time, self._clock(), self._ros_clock(), self.settings
            )

    def void_plans(self) -> None:
        """Plans that are being made now are not driven."""
        with self._lock:
            self._num_stops += 1

    def time_jumped(self) -> None:
        """Stamps went back: what came before says nothing any more, and plans are void."""
        with self._lock:
            self._num_stops += 1
            jumps = self._odometry.num_jumps + 1
            self._odometry = OdometryState(num_jumps=jumps)
            self._camera = CameraState(layout=self._camera.layout, noisy=self._camera.noisy)

    def restart(self) -> None:
        """The node is activated: nothing has come yet."""
        with self._lock:
            self.time_jumped()
            self._camera, self._time = CameraState(), ClockState(num_pauses=self._time.num_pauses)
            self._commands, self.stopped_because = [], ""
            self._not_valid = self._beyond_limits = ""

    # -- plans ----------------------------------------------------------------------------------

    def origin(self, pose: Pose, frame_age_s: float) -> PlanOrigin:
        """Where a plan is made from that is begun to be made now.

        Args:
            pose: of the newest frame of its history; frame_age_s: how old that is [s].
        """
        with self._lock:
            return PlanOrigin(
                pose, self._clock(), max(frame_age_s, 0.0), self._odometry.num_jumps,
                self._time.num_pauses, self._num_stops,
            )  # fmt: skip

    def why_not_begin(self, origin: PlanOrigin, path: NDArray[np.float64]) -> tuple[str, float]:
        """(why a plan must not be begun now, or empty; how many of its steps lie behind already).

        Args:
            path: poses [n + 1, 3] of the plan.
        """
        with self._lock:
            reason, steps = self._why_not_begin(origin, path)
            self.stopped_because = reason and f"not driven: {reason}"
            return reason, steps

    def _why_not_begin(self, origin: PlanOrigin, path: NDArray[np.float64]) -> tuple[str, float]:
        facts, self._not_valid = self._facts(), ""
        reason = _first(checks.results(facts))
        if reason:
            return reason, 0.0
        try:
            self._not_valid = checks.plan_not_valid(origin, path, facts)
            here = facts.odometry.planar or origin.pose
            steps = checks.nearest_on(path, here, self.settings)[0]
        except Exception as error:
            self._not_valid = f"the check failed: {type(error).__name__}: {error}"
        if self._not_valid:
            return f"{checks.PLAN_VALID}: {self._not_valid}", 0.0
        return "", steps

    def newest_pose(self) -> tuple[int, tuple[float, float, float, float]] | None:
        """(when it came by the steady clock [ns], (x, y, z, yaw)); None before the first."""
        with self._lock:
            state = self._odometry
            return None if state.pose is None else (state.arrived_ns, state.pose)

    # -- commands -------------------------------------------------------------------------------

    def publish(self, twist: Twist) -> str:
        """Send a command if every check allows it, and a stop if not.

        Returns:
            Why it was stopped; empty when it was not.
        """
        with self._lock:
            reason, limited = self.fault(), STOP
            if tuple(twist) != STOP and not reason:
                reason, limited = self._limited(twist)
            now_ns = self._clock()
            self._commands.append((now_ns, limited))
            if self._commands[0][0] < now_ns - 2 * KEPT_NS:
                self._commands = [c for c in self._commands if c[0] >= now_ns - KEPT_NS]
            if limited == STOP:  # what is compared with the motion begins anew
                self._commands = []
            self._output.publish(limited)
            return reason

    def publish_last(self, twist: Twist) -> None:
        """Send a stop, and wait a little until its receivers have confirmed it."""
        self._output.publish_last(STOP)

    def report_executing(self, executing: bool) -> None:
        """Say whether a plan is being driven."""
        self._output.report_executing(executing)

    def report_stop(self, reason: str) -> None:
        """Say why a plan was given up, and keep the reason."""
        self.stopped_because = reason
        self._output.report_stop(reason)

    def fault(self) -> str:
        """The first check that fails now, and why; empty when all hold."""
        with self._lock:
            return _first(checks.results(self._facts()))

    def camera_fault(self) -> str:
        """Why the pictures of the camera show nothing of the world; empty when they do."""
        with self._lock:
            return _first({"camera alive": checks.results(self._facts())["camera alive"]})

    def lines(self) -> tuple[str, ...]:
        """One line for each check: "name: OK", or why it fails."""
        with self._lock:
            found, also = checks.results(self._facts()), self._also
            fine = {
                checks.PLAN_VALID: self._not_valid and f"OK (the last plan: {self._not_valid})",
                checks.LIMITS: self._beyond_limits and f"OK (the last plan: {self._beyond_limits})",
                "single publisher": also and f"OK ({also} publishes on the same topic)",
            }
        return tuple(f"{n}: {found.get(n) or fine.get(n) or 'OK'}" for n in checks.NAMES)

    def _limited(self, twist: Twist) -> tuple[str, Twist]:
        when, previous = self._commands[-1] if self._commands else (0, STOP)
        passed_s = min((self._clock() - when) / checks.NS, 0.1)
        try:
            limited = self.settings.limits.limited(twist, previous, passed_s)
        except Exception as error:
            self._beyond_limits = str(error)
            return f"{checks.LIMITS}: {error}", STOP
        self._beyond_limits = ""
        return "", limited

    def _facts(self) -> Facts:
        return Facts(
            self.settings, self._clock(), self._ros_clock(), self._camera, self._odometry,
            self._time, self._commands, self._publishers, self._num_stops,
        )  # fmt: skip


def _first(found: dict[str, str]) -> str:
    """The first check that fails, with its name; empty when none does."""
    return next((f"{name}: {reason}" for name, reason in found.items() if reason), "")
