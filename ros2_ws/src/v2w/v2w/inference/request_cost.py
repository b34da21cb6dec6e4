"""What a request will take, estimated before it begins, and the limit past which it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from v2w.errors import NodeError

MIB = 2**20


@dataclass(frozen=True)
class Pace:
    """How fast a model was in its trial rollouts.

    Attributes:
        pass_s: seconds for one candidate's frame in one denoising pass; guidance counts twice.
        frame_s: seconds for decoding one frame.
    """

    pass_s: float = 0.0
    frame_s: float = 0.0


@dataclass(frozen=True)
class RequestCost:
    """The size of a request.

    Attributes:
        num_frames: frames to imagine: candidates x horizon.
        num_sampling_steps: denoising steps of each.
        guided: whether each step computes the unconditional branch too.
    """

    num_frames: int
    num_sampling_steps: int
    guided: bool

    @property
    def num_passes(self) -> int:
        """Frames x steps, twice with guidance."""
        return self.num_frames * self.num_sampling_steps * (2 if self.guided else 1)

    def seconds(self, pace: Pace, *, decoded: bool) -> float:
        """The time that it will take [s].

        Args:
            decoded: whether the frames become pictures.
        """
        return self.num_passes * pace.pass_s + (self.num_frames * pace.frame_s if decoded else 0.0)

    def check_time(self, seconds: float, limit_s: float) -> None:
        """Refuse a request that takes too long.

        Raises:
            NodeError: INVALID_REQUEST with the figure, where it comes from, and the limit.
        """
        if seconds > limit_s:
            guided = " x 2 (guidance)" if self.guided else ""
            raise NodeError(
                "request",
                f"at most {limit_s:g} s of work (parameter max_request_time); ask for fewer "
                "candidates, steps or sampling steps",
                f"about {seconds:.0f} s: {self.num_frames} frames x {self.num_sampling_steps} "
                f"sampling steps{guided}",
            )

    def check_answer(self, frame_bytes: float, limit_mib: float) -> None:
        """Refuse a request whose answer is too large.

        Args:
            frame_bytes: largest size of one frame in the answer; 0 without frames.
            limit_mib: largest size of the answer [MiB].

        Raises:
            NodeError: INVALID_REQUEST with the figure and the limit.
        """
        mib = self.num_frames * frame_bytes / MIB
        if mib > limit_mib:
            raise NodeError(
                "frame_format",
                f"an answer of at most {limit_mib:g} MiB (parameter max_answer_mib); ask for JPEG, "
                "no frames, or fewer candidates",
                f"{self.num_frames} frames, up to {mib:.0f} MiB",
            )
