"""HDF5 files of somebody else: nothing of other files, and no bombs."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2w_core.data.convert import convert
from v2w_core.data.episode import is_episode, read_episode, write_episode
from v2w_core.data.hdf5 import MAX_FRAMES, attribute, checked_dataset, has, open_hdf5
from v2w_core.data.sources.csgo import is_csgo, open_csgo
from v2w_core.data.sources.recon import is_recon, open_recon
from v2w_core.errors import DataError
from v2w_core.images import encode_image
from v2w_core.spec import ActionSpec

T = 6
SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1,) * 3, (1,) * 3, 4.0)
SECRET = np.arange(T * 4, dtype=np.float64).reshape(T, 4) / 7


def write_plain(path):
    frames = np.zeros((T, 16, 16, 3), np.uint8)
    return write_episode(
        path, frames=frames, actions=np.zeros((T - 1, 3)), poses=np.zeros((T, 4)),
        stamps_ns=np.arange(T), action_spec=SPEC, source="test",
    )  # fmt: skip


@pytest.fixture
def episode(tmp_path):
    return write_plain(tmp_path / "a.h5")


def secret(folder):
    """Numbers in other files, which must not become poses."""
    with h5py.File(folder / "secret.h5", "w") as file:
        file["poses"] = SECRET
    (folder / "secret.raw").write_bytes(SECRET.tobytes())


def external_link(file):
    file["poses"] = h5py.ExternalLink("secret.h5", "poses")


def soft_link(file):
    file["elsewhere"] = SECRET
    file["poses"] = h5py.SoftLink("/elsewhere")


def soft_link_to_external(file):
    file["out"] = h5py.ExternalLink("secret.h5", "/")
    file["poses"] = h5py.SoftLink("/out/poses")


def external_storage(file):
    here = str(Path(file.filename).with_name("secret.raw")).encode()
    file.create_dataset("poses", (T, 4), "f8", external=[(here, 0, SECRET.nbytes)])


def virtual(file):
    layout = h5py.VirtualLayout((T, 4), "f8")
    layout[:] = h5py.VirtualSource(str(Path(file.filename).with_name("secret.h5")), "poses", (T, 4))
    file.create_virtual_dataset("poses", layout)


def references(file):
    file.create_dataset("poses", (T, 4), h5py.ref_dtype)


def regions(file):
    file.create_dataset("poses", (T, 4), h5py.regionref_dtype)


def texts(file):
    file.create_dataset("poses", (T, 4), h5py.string_dtype())


def compound(file):
    file.create_dataset("poses", (T,), [("x", "f8"), ("r", h5py.ref_dtype)])


def a_group(file):
    file.create_group("poses")


def a_type(file):
    file["poses"] = np.dtype("f8")


def nothing(file):
    file["poses"] = h5py.Empty("f8")


def unwritten(file):
    file.create_dataset("poses", (T, 4), "f8", chunks=(T, 4))


def far_too_long(file):
    file.create_dataset("poses", (1 << 27, 4), "f8", chunks=(1024, 4), compression="gzip")


def a_huge_chunk(file):
    found = file.create_dataset(
        "poses", (T, 4), "f8", chunks=(1 << 26, 4), maxshape=(None, 4), compression="gzip"
    )
    assert found.chunks


def a_packed_bomb(file):
    found = file.create_dataset("poses", (T, 4), "f8", chunks=(T, 4), compression="gzip")
    found.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 26), 9))


def packed_twice(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((T, 4))
    plist.set_deflate(9)
    plist.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    space = h5py.h5s.create_simple((T, 4))
    found = h5py.h5d.create(file.id, b"poses", h5py.h5t.NATIVE_DOUBLE, space, plist)
    found.write(h5py.h5s.ALL, h5py.h5s.ALL, SECRET)


def a_plug_in(file):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((T, 4))
    plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((T, 4))
    h5py.h5d.create(file.id, b"poses", h5py.h5t.NATIVE_DOUBLE, space, plist)


WRONG = [
    external_link, soft_link, soft_link_to_external, external_storage, virtual, references, regions,
    texts, compound, a_group, a_type, nothing, unwritten, far_too_long, a_huge_chunk,
    a_packed_bomb, packed_twice, a_plug_in,
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
@pytest.mark.parametrize("name", ["poses", "actions", "stamps_ns", "frames"])
def test_a_dataset_that_is_not_in_the_file_is_refused(episode, change, name):
    secret(episode.parent)
    with h5py.File(episode, "r+") as file:
        del file["poses"]
        change(file)
        if name != "poses":
            del file[name]
            file.move("poses", name)
            file["poses"] = np.zeros((T, 4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=name):
        read_episode(episode)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("options", [
    {}, {"compression": "gzip"}, {"compression": "lzf"}, {"compression": "gzip", "shuffle": True},
    {"fletcher32": True, "compression": "gzip"}, {"chunks": (2, 4)}, {"maxshape": (None, 4)},
])  # fmt: skip
def test_numbers_in_the_file_are_read_however_they_are_packed(episode, options):
    with h5py.File(episode, "r+") as file:
        del file["poses"]
        file.create_dataset("poses", data=SECRET, **options)
    np.testing.assert_array_equal(read_episode(episode).poses, SECRET)


def test_frames_that_share_bytes_are_refused(tmp_path):
    path = write_plain(tmp_path / "a.h5")
    big = np.frombuffer(encode_image(np.zeros((16, 16, 3), np.uint8)) + bytes(4 << 20), np.uint8)
    count = 2000
    with h5py.File(path, "r+") as file:
        for name in ("frames", "poses", "stamps_ns", "actions"):
            del file[name]
        kind = h5py.vlen_dtype(np.uint8)
        frames = file.create_dataset("frames", (count,), kind, chunks=(count,))
        frames[0] = big
        packed = np.frombuffer(frames.id.read_direct_chunk((0,))[1], np.uint8)
        first = packed.reshape(count, -1)[:1]
        frames.id.write_direct_chunk((0,), np.repeat(first, count, axis=0).tobytes())
        file["poses"], file["stamps_ns"] = np.zeros((count, 4)), np.arange(count)
        file["actions"] = np.zeros((count - 1, 3))
    episode = read_episode(path)
    assert len(episode.encoded_frames(0, 3)) == 3
    with pytest.raises(DataError, match="same bytes"):
        episode.encoded_frames()


def test_too_many_frames_are_refused(episode):
    with h5py.File(episode, "r+") as file:
        file["frames"].resize((MAX_FRAMES + 1,))
    with pytest.raises(DataError, match="frames"):
        read_episode(episode)


def test_frames_that_are_too_large_together_are_not_allocated(episode):
    with h5py.File(episode, "r+") as file:
        file.attrs["height"] = file.attrs["width"] = 5792
    with pytest.raises(DataError, match="frames"):
        read_episode(episode).frames()


SPEC_OF = '{"names": ["a"], "units": ["m"], "low": [0], "high": [1], "rate_hz": 4}'
ATTRIBUTES = {
    "a list": [1, 2],
    "a number": 5,
    "empty": h5py.Empty("S10"),
    "too long": "x" * (2 << 20),
    "deep": "[" * 100_000,
    "digits": "[" + "9" * 10_000 + "]",
    "no spec": '{"names": 1}',
    "infinite": '{"names": ["a"], "units": ["m"], "low": [-1e999], "high": [1], "rate_hz": 1}',
    "texts": '{"names": ["a"], "units": ["m"], "low": ["x"], "high": [1], "rate_hz": 1}',
    "a text for a rate": SPEC_OF.replace("4", '"x"'),
    "huge": SPEC_OF.replace("4", "1" + "0" * 400),
}  # fmt: skip


@pytest.mark.parametrize("value", ATTRIBUTES)
@pytest.mark.parametrize(
    "name", ["action_spec", "attributes", "source", "height", "format_version"]
)
def test_attributes_of_any_kind_are_refused_or_read(episode, name, value):
    with h5py.File(episode, "r+", libver="latest") as file:
        del file.attrs[name]
        file.attrs[name] = ATTRIBUTES[value]
    try:
        read_episode(episode)
    except DataError:
        return
    assert name in ("source", "attributes") or (name, value) == ("height", "a number")


def test_an_attribute_that_is_a_reference_is_refused(episode):
    with h5py.File(episode, "r+") as file:
        del file.attrs["source"]
        file.attrs.create("source", file["poses"].ref, dtype=h5py.ref_dtype)
    with pytest.raises(DataError, match="source"):
        read_episode(episode)
    with open_hdf5(episode) as file:
        assert attribute(file, "none", str, "a", default="b") == "b"


def test_a_user_block_is_refused(episode, tmp_path):
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=512) as file:
        file["poses"] = SECRET
    with pytest.raises(DataError, match="user block"), open_hdf5(tmp_path / "b.h5"):
        pass


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.h5")
    assert not is_episode(tmp_path / "a.h5")
    for path in (tmp_path / "a.h5", tmp_path, tmp_path / "none.h5"):
        with pytest.raises(DataError), open_hdf5(path):
            pass


def test_a_link_is_not_followed_to_tell_the_kind(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images/rgb_left"], file["frame_0_x"] = np.zeros(3), np.zeros(3)
    source = tmp_path / "in" / "a.h5"
    source.parent.mkdir()
    with h5py.File(source, "w") as file:
        file["images"] = h5py.ExternalLink("../other.h5", "images")
        file["frame_0_x"] = h5py.ExternalLink("../other.h5", "frame_0_x")
        file["loop"] = h5py.SoftLink("/loop")
    assert not is_recon(source) and not is_csgo(source)
    with open_hdf5(source) as file:
        assert not has(file, "loop")
        with pytest.raises(DataError, match="link"):
            checked_dataset(file, "images/rgb_left", "a", "f")


def recon(path, images=None, position=None):
    picture = encode_image(np.zeros((16, 16, 3), np.uint8))
    with h5py.File(path, "w") as file:
        if images is None:
            file["images/rgb_left"] = np.array([picture] * T, dtype=f"S{len(picture)}")
        else:
            images(file.create_group("images"))
        if position is None:
            file["jackal/position"] = np.zeros((T, 3))
        else:
            position(file.create_group("jackal"))
        file["jackal/yaw"] = np.zeros(T)
    return path


RECON = {
    "a link": ("position", lambda g: g.__setitem__("position", h5py.ExternalLink("b.h5", "x"))),
    "4 GB": ("position", lambda g: g.create_dataset("position", (1 << 28, 2), "f8", chunks=True)),
    "references": ("images", lambda g: g.create_dataset("rgb_left", (T,), h5py.ref_dtype)),
    "rows of 2 GB": ("images", lambda g: g.create_dataset("rgb_left", (T,), "S2147483647")),
    "a grid": ("images", lambda g: g.create_dataset("rgb_left", data=np.zeros((T, 2, 2), "u1"))),
    "2^40 rows": ("images", lambda g: g.create_dataset("rgb_left", (1 << 40,), "S9", chunks=(9,))),
}


@pytest.mark.parametrize("name", RECON)
def test_recon_files_are_read_by_the_same_rules(tmp_path, name):
    part, change = RECON[name]
    source = recon(tmp_path / "a.hdf5", **{part: change})
    with pytest.raises(DataError):
        convert(open_recon(source), tmp_path / "out", "recon")
    assert not list((tmp_path / "out").glob("*.h5"))


@pytest.mark.parametrize("shape", [(1 << 16, 1 << 16, 3), (1, 1 << 24, 3), (2, 8, 3)])
def test_csgo_pictures_that_are_not_in_the_file_are_refused(tmp_path, shape):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for index in range(2):
            file.create_dataset(f"frame_{index}_x", shape, "u1", chunks=(1, 8, 3))
            file[f"frame_{index}_y"] = np.zeros(51)
    with pytest.raises(DataError):
        convert(open_csgo(tmp_path / "a.hdf5"), tmp_path / "out", "csgo")


@given(data=st.data())
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_episode_is_read_or_refused(tmp_path, data):
    source = tmp_path / "a.h5"
    if not source.exists():
        write_plain(source)
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(content) - 9))
        value = data.draw(st.sampled_from([0, 1, 255, 2**31, 2**63, 2**64 - 1]))
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        content[at : at + width] = struct.pack("<Q", value)[:width]
    damaged = tmp_path / "b.h5"
    damaged.write_bytes(content)
    try:
        read_episode(damaged).frames()
    except DataError:
        return
