from __future__ import annotations

from pathlib import Path

import pytest

from v2w.errors import CODES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", ["srv/Imagine.srv", "srv/Plan.srv", "action/Plan.action"])
def test_error_codes_of_the_interfaces_are_those_of_the_nodes(path: str) -> None:
    text = (ROOT / "ros2_ws/src/v2w_msgs" / path).read_text()
    found = {}
    for line in text.splitlines():
        if line.startswith("uint16 ") and "=" in line:
            name, _, value = line.removeprefix("uint16 ").partition("=")
            found[name] = int(value)
    wanted = dict(CODES)
    if "Imagine" in path:
        del wanted["NO_VALID_PLAN"], wanted["NOT_DRIVEN"]
    assert found == wanted


def test_states_of_the_status_message_are_those_of_the_nodes() -> None:
    from v2w.inference import status

    text = (ROOT / "ros2_ws/src/v2w_msgs/msg/ModelStatus.msg").read_text()
    for value, name in enumerate(status.NAMES):
        assert f"uint8 {name}={value}" in text


def test_every_field_of_the_interfaces_is_explained() -> None:
    for path in (ROOT / "ros2_ws/src/v2w_msgs").glob("*/*.[msa]*"):
        explained = False
        for line in path.read_text().splitlines():
            explained = bool(line) and (explained or line.startswith("#"))
            if line and line != "---" and not line.startswith("#") and "=" not in line:
                assert explained, f"{path.name}: {line}"


def test_launch_files_of_the_package_are_the_real_ones() -> None:
    installed = ROOT / "ros2_ws/src/v2w/launch"
    for path in (ROOT / "launch").glob("*.launch.py"):
        assert (installed / path.name).resolve() == path.resolve()


def test_every_package_names_the_licence_of_the_file() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:5] == ["Apache", "License", "Version", "2.0,", "January"]
    assert "END OF TERMS AND CONDITIONS" in text
    for path in ("v2w_msgs/package.xml", "v2w/package.xml"):
        assert "<license>Apache-2.0</license>" in (ROOT / "ros2_ws/src" / path).read_text()
    assert 'license="Apache-2.0"' in (ROOT / "ros2_ws/src/v2w/setup.py").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    assert 'license = "Apache-2.0"\nlicense-files = ["LICENSE"]' in project
