"""Faults, costs and waiting of requests: what the nodes decide without ROS."""

from __future__ import annotations

import threading

import pytest

from v2w.errors import NodeError
from v2w.inference.faults import FaultRecord, FaultReport, one_line
from v2w.inference.model_thread import ModelThread
from v2w.inference.request_cost import Pace, RequestCost
from v2w.inference.status import ERROR, Phase, StatusReport
from v2w_core.errors import V2WError


def test_a_fault_lasts_until_its_callback_works_again_and_is_counted_for_ever() -> None:
    record = FaultRecord()
    assert record.read() == FaultReport()
    record.add("timer", "timer: broken")
    record.add("service", "service: broken")
    record.add("timer", "timer: broken again")
    assert record.read() == FaultReport(3, "timer: broken again")
    assert record.end("timer") and not record.end("timer") and not record.end("other")
    assert record.read() == FaultReport(3, "service: broken")
    record.end_all()
    assert record.read() == FaultReport(3, "")


def test_a_status_with_a_fault_is_an_error_and_says_which() -> None:
    report = StatusReport(phase=Phase.ACTIVE, faults=FaultReport(7, "timer: broken"))
    assert report.state == ERROR
    assert report.message == "error 7 in a callback, timer: broken"
    assert StatusReport(phase=Phase.ACTIVE, faults=FaultReport(7)).state != ERROR


def test_errors_are_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(V2WError("field", "a rule\nin lines")) == "field: a rule in lines"
    assert one_line(RuntimeError()) == "RuntimeError: "


def test_the_time_of_a_request_is_refused_with_the_figures() -> None:
    cost = RequestCost(num_frames=512, num_sampling_steps=1000, guided=True)
    seconds = cost.seconds(Pace(pass_s=0.001, frame_s=1.0), decoded=False)
    assert seconds == pytest.approx(1024.0)
    assert cost.seconds(Pace(0.001, 1.0), decoded=True) == pytest.approx(1536.0)
    cost.check_time(seconds, 1025.0)
    wanted = r"at most 60 s .*max_request_time.*1024 s: 512 frames x 1000 sampling steps x 2"
    with pytest.raises(NodeError, match=wanted) as caught:
        cost.check_time(seconds, 60.0)
    assert caught.value.code == "INVALID_REQUEST"


def test_the_answer_of_a_request_is_refused_with_the_figures() -> None:
    cost = RequestCost(num_frames=8 * 1024, num_sampling_steps=1, guided=False)
    cost.check_answer(0.0, 1.0)
    cost.check_answer(2.0**10, 8.0)
    with pytest.raises(NodeError, match=r"at most 128 MiB \(parameter max_answer_mib.*8192 frames"):
        cost.check_answer(3.0 * 128 * 160, 128)


def test_a_request_whose_turn_does_not_come_in_time_is_answered_so() -> None:
    thread, may_end = ModelThread(max_waiting=3), threading.Event()
    first = threading.Thread(target=lambda: thread.run(lambda: may_end.wait(30.0)))
    first.start()
    while not thread.busy:
        pass
    never: list[int] = []
    with pytest.raises(NodeError, match=r"within 0.05 s \(parameter max_waiting_time\)") as caught:
        thread.run(lambda: never.append(1), max_wait_s=0.05)
    assert caught.value.code == "TIMEOUT"
    assert thread.num_waiting == 0
    may_end.set()
    first.join(30.0)
    assert thread.run(lambda: 5, max_wait_s=30.0) == 5
    assert not never
