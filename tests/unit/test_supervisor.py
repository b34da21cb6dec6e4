from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from v2w.bringup.supervisor import Supervisor

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"


def supervisor() -> tuple[Supervisor, io.StringIO]:
    output = io.StringIO()
    return Supervisor(dict(os.environ), output), output


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_a_process_that_ends_stops_the_others_and_gives_its_code() -> None:
    group, output = supervisor()
    with group:
        group.start("sleeper", python(SLEEPER))
        group.start("brief", python("print('bye'); raise SystemExit(7)"))
        assert group.run() == 7
    assert all(child.process.poll() is not None for child in group.children)
    assert "[brief] bye" in output.getvalue()
    assert "brief died (exit code 7)" in output.getvalue()


def test_ending_without_an_error_is_still_no_success() -> None:
    group, _ = supervisor()
    with group:
        group.start("brief", python("pass"))
        assert group.run() == 1


def test_an_interrupt_stops_everything_with_code_0() -> None:
    group, output = supervisor()
    before = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while "up" not in output.getvalue():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    with group:  # the handlers are there before the child is
        thread = threading.Thread(target=interrupt)
        thread.start()
        group.start("sleeper", python(SLEEPER))
        assert group.run() == 0
        thread.join(10.0)
    assert group.children[0].process.poll() is not None
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_processes_are_still_being_started(number: signal.Signals) -> None:
    group, output = supervisor()
    with group:
        group.start("sleeper", python(SLEEPER))
        os.kill(os.getpid(), number)
        group.start("another", python(SLEEPER))
        assert group.run() == 0
    assert all(child.process.poll() is not None for child in group.children)
    assert "stopping" in output.getvalue()


def test_an_interrupt_in_the_moment_of_a_fork_is_not_lost() -> None:
    code = (
        "import os, signal, sys; from v2w.bringup.supervisor import Supervisor\n"
        "os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "s = Supervisor(dict(os.environ))\n"
        "try:\n"
        f"    s.start('x', [sys.executable, '-S', '-c', {SLEEPER!r}])\n"
        "    print('lost')\n"
        "except KeyboardInterrupt:\n"
        "    print(len(s.children), 'started, then interrupted')\n"
        "finally:\n"
        "    s.stop()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 started, then interrupted", done.stderr


def test_children_do_not_outlive_a_supervisor_that_is_killed() -> None:
    code = (
        "import sys; from v2w.bringup.supervisor import Supervisor\n"
        "s = Supervisor({}).__enter__()\n"
        f"s.start('x', [sys.executable, '-S', '-c', {SLEEPER!r}])\n"
        "print(s.children[0].process.pid, flush=True); s.run()"
    )
    environment = dict(os.environ)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its supervisor"
        time.sleep(0.05)


def test_a_code_with_a_meaning_is_explained() -> None:
    group, output = supervisor()
    group.meanings = {3: "was shut down"}
    with group:
        group.start("brief", python("raise SystemExit(3)"))
        assert group.run() == 3
    assert "brief was shut down; stopping the others" in output.getvalue()


#: A process that asks for its parent once that has had the time to die; and one that starts it.
CHILD = (
    "import time; time.sleep(0.5); from v2w.bringup import parent; parent.end_with_named_parent(); "
    "print('goes on', flush=True)"
)
PARENT = (
    "import os, subprocess, sys; "
    "named = os.environ | {'V2W_PARENT': str(os.getpid())}; "
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], env=named); "
    "sys.argv[2:] and child.wait()"
)


@pytest.mark.parametrize(("waits", "goes_on"), [(["waits"], True), ([], False)])
def test_a_process_ends_with_the_one_that_is_named(waits: list[str], goes_on: bool) -> None:
    command = [sys.executable, "-c", PARENT, CHILD, *waits]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ("goes on" in done.stdout) is goes_on
    assert ("has ended" in done.stderr) is not goes_on
