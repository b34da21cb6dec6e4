"""Bags that claim, or unpack to, more than there is: read or refused, and nothing runs full."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from bagmaker import START_NS, BagMaker
from convert_toys import converted, fails
from mcapmaker import MAGIC
from test_bag_damage import as_mcap
from test_bag_files import made, whole
from test_bag_motion import codes

from v2w_core.data.bags import compression
from v2w_core.data.bags.compression import unpack


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
        + "rosbag2_bagfile_information: {relative_file_paths: *a11}\n",
        "[" * 100_000,
        "rosbag2_bagfile_information:\n" + "  x: y\n" * 300_000,
        "rosbag2_bagfile_information: {relative_file_paths: ['../../etc/passwd', 7, [1]]}\n",
        "\xff\x00{",
    ],
    ids=["aliases", "deep", "long", "outside", "noise"],
)
def test_metadata_that_is_none(tmp_path: Path, text: str) -> None:
    folder = made(tmp_path, "mcap").parent
    (folder / "metadata.yaml").write_text(text, encoding="latin-1")
    assert whole(folder, tmp_path / "out")


@pytest.mark.parametrize("count", [0, 1 << 62])
def test_counts_in_a_summary_that_are_wrong(tmp_path: Path, count: int) -> None:
    file = made(tmp_path, "mcap")
    data = bytearray(file.read_bytes())
    at = int.from_bytes(data[-28:-20], "little")
    while data[at] != 11:
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    (size,) = struct.unpack_from("<I", data, at + 9 + 42)
    for place in range(at + 9 + 46, at + 9 + 46 + size, 10):
        struct.pack_into("<Q", data, place + 2, count)
    file.write_bytes(data)
    assert whole(file, tmp_path / "out")


def bomb(size: int) -> bytes:
    packer, zeros = zstd.ZstdCompressor(level=1), bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize("claim", [1 << 20, 1 << 34])
def test_a_chunk_that_unpacks_to_gigabytes(
    tmp_path: Path, claim: int, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = bomb(1 << 28)
    head = struct.pack("<QQQI", 0, 0, claim, 0) + struct.pack("<I", 4) + b"zstd"
    body = head + struct.pack("<Q", len(packed)) + packed
    file = tmp_path / "drive.mcap"
    file.write_bytes(MAGIC + b"\x06" + struct.pack("<Q", len(body)) + body)
    tracemalloc.start()
    message = fails(capsys, file, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "no messages" in message and len(message.splitlines()) <= 10
    assert peak < 1 << 25


@pytest.mark.parametrize("method", compression.METHODS)
def test_unpacking_stops_at_its_limit(method: str) -> None:
    import bz2

    import lz4.frame

    pack = {"zstd": zstd.compress, "lz4": lz4.frame.compress, "bz2": bz2.compress}[method]
    data = bytes(range(256)) * 2_000
    packed = pack(data)
    assert unpack(packed, method, len(data)) == data
    assert data.startswith(unpack(memoryview(packed)[: len(packed) // 2], method))
    with pytest.raises(ValueError, match="more than"):
        unpack(packed, method, len(data) - 1)


@pytest.mark.parametrize("limit", ["MAX_RATIO", "KEPT_FREE"])
def test_a_file_that_unpacks_to_more_than_the_disk(
    tmp_path: Path,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packed = tmp_path / "drive.mcap.zst"
    packed.write_bytes(zstd.compress(MAGIC + bytes(1 << 24)))
    monkeypatch.setattr(compression, "_GIB", 1 << 20)
    monkeypatch.setattr(compression, limit, {"MAX_RATIO": 2, "KEPT_FREE": 1 << 60}[limit])
    message = fails(capsys, packed, tmp_path / "out")
    assert {"MAX_RATIO": "unpack it yourself", "KEPT_FREE": "TMPDIR"}[limit] in message


def test_an_image_that_claims_thousands_of_millions_of_pixels(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive()
    kind = "sensor_msgs/msg/Image"
    message = maker.store.types[kind](
        header=maker._header(START_NS + 1_000_000_000, "camera"), height=2**31, width=2**31,
        encoding="rgb8", is_bigendian=0, step=0, data=np.ones(2, np.uint8),
    )  # fmt: skip
    maker.pending = [row for row in maker.pending if row[0] != START_NS + 1_020_000_000]
    maker._add("/camera/image_raw", kind, message, START_NS + 1_020_000_000)
    episodes = converted(maker.close(), tmp_path / "out")
    assert sum(map(len, episodes)) == 11 and "bad_images" in codes(episodes[0])


def test_a_limit_on_the_size_of_files_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """As a full disk that stays full; HDF5 would crash the process when it closes the file."""
    bag = as_mcap(tmp_path / "drive.mcap")
    program = (
        "import resource, signal, sys; from v2w_core.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "sys.exit(main(['convert', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", program, str(bag), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "File too large" in done.stderr
    assert not any((tmp_path / "out").iterdir())
