"""Recordings of event cameras as people have them: files of every version, data sets of tonic, and what is refused."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tonic

import fastsnn_deploy as fd
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training import event_files

SAVED = Path(__file__).parent / "saved_events.aedat4"
"""60 events of a sensor of 6x5 pixels, as dv-processing 2.0.4 wrote them."""


def events(seed: int = 0, size: tuple[int, int] = (128, 128), count: int = 50) -> fd.Events:
    rng = np.random.default_rng(seed)
    y, x = (rng.integers(0, side, count) for side in size)
    return fd.Events(t=1000 + np.sort(rng.permutation(5000)[:count]), x=x, y=y, p=rng.integers(0, 2, count))


def assert_same(found: fd.Events, expected: fd.Events) -> None:
    for name in "txyp":
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def aedat2(address: np.ndarray, times: np.ndarray) -> bytes:
    pairs = np.stack([address, times], 1).astype(">u4")
    return b"#!AER-DAT2.0\r\n# Creation time: System.currentTimeMillis() 1\r\n" + pairs.tobytes()


def packet(kind: int, size: int, body: bytes, number: int, overflow: int = 0) -> bytes:
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, number, number, number) + body


def aedat3(recording: fd.Events, overflow: int = 0) -> bytes:
    address = (recording.x << 17) | (recording.y << 2) | (recording.p << 1) | 1
    pairs = np.stack([address, recording.t], 1).astype("<u4")
    invalid = np.asarray([[address[0] & ~1, 5]], dtype="<u4")
    other = packet(2, 36, bytes(36 * 2), 2)  # frames, which are passed by
    mine = packet(1, 8, pairs.tobytes() + invalid.tobytes(), len(pairs) + 1, overflow)
    return b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n" + other + mine


# --- files


def test_aedat_4_of_another_program():
    found, theirs = fd.read_events(SAVED), tonic.io.read_aedat4(str(SAVED))
    assert len(found) == 60
    for name in "txyp":
        assert np.array_equal(getattr(found, name), theirs[name].astype(np.int64))


@pytest.mark.parametrize("camera", ["dvs128", "davis240", "davis346"])
def test_aedat_2_by_camera(camera: str, tmp_path: Path):
    height, width = event_files.SIZES[camera]
    written, file = events(size=(height, width)), tmp_path / "old.aedat"
    address = {
        "dvs128": (written.x << 8) | (written.y << 1) | written.p,
        "davis240": ((239 - written.x) << 12) | ((179 - written.y) << 22) | (written.p << 11),
        "davis346": ((345 - written.x) << 12) | ((259 - written.y) << 22) | (written.p << 11),
    }[camera]
    no_event = np.asarray([1 << 31]), np.asarray([7])
    file.write_bytes(aedat2(np.concatenate([address, no_event[0]]), np.concatenate([written.t, no_event[1]])))
    assert_same(fd.read_events(file, camera), written)
    if camera == "davis346":
        _, _, theirs = tonic.io.read_davis_346(str(file))
        for name in "txyp":
            assert np.array_equal(getattr(written, name), theirs[name][:-1]), name


def test_times_of_32_bits_go_on_beyond_them(tmp_path: Path):
    late = np.asarray([2**32 - 10, 2**32 - 3, 4, 9])
    (tmp_path / "two.aedat").write_bytes(aedat2(np.zeros(4, dtype=int), late))
    assert np.diff(fd.read_events(tmp_path / "two.aedat", "dvs128").t).tolist() == [7, 7, 5]
    (tmp_path / "three.aedat").write_bytes(aedat3(events(), overflow=3))
    assert np.array_equal(fd.read_events(tmp_path / "three.aedat").t, events().t + 3 * 2**31)


def test_aedat_3(tmp_path: Path):
    file = tmp_path / "three.aedat"
    file.write_bytes(aedat3(events()))
    assert_same(fd.read_events(file), events())


def test_npz_with_one_recording_and_with_several(tmp_path: Path):
    one, other = events(), events(1, count=20)
    np.savez(tmp_path / "one.npz", t=one.t, x=one.x, y=one.y, p=one.p.astype(bool))
    assert_same(fd.read_events(tmp_path / "one.npz"), one)
    joined = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in "txyp"}
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", **joined, starts=[0, 50], labels=[1, 0], size=[128, 128])
    with pytest.raises(InputError, match="holds 2 recordings"):
        fd.read_events(tmp_path / "train.npz")
    data = fd.load_data(str(tmp_path / "train.npz"), "test")
    assert data.labels.tolist() == [1, 0]
    assert np.array_equal(data.levels[:].numpy(), np.stack([one.frame((128, 128)), other.frame((128, 128))]))
    part = fd.load_data(f"{tmp_path / 'train.npz'}(downsample=32, stop_us=1000, most=2)", "train")
    expected = np.minimum(one.between(stop_us=1000).downsampled(32).frame((4, 4)), 2)
    assert np.array_equal(part.levels[:1].numpy()[0], expected)
    assert (part.step, part.highest, part.mean) == (1.0, 2, (0.0, 0.0))


def test_a_folder_of_recordings(tmp_path: Path):
    for split, count in (("train", 3), ("test", 1)):
        for kind in ("left", "right"):
            (tmp_path / split / kind).mkdir(parents=True)
            for number in range(count):
                shutil.copy(SAVED, tmp_path / split / kind / f"{number}.aedat4")
    data = fd.load_data(f"{tmp_path}(height=5, width=6)", "train")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.class_names == ("left", "right")
    assert data.shape == (2, 5, 6)
    assert np.array_equal(data.levels[-1:].numpy()[0], fd.read_events(SAVED).frame((5, 6)))
    with pytest.raises(InputError, match=r"say what sensor it is of, as .*\(height=128, width=128\)"):
        fd.load_data(str(tmp_path), "train")
    with pytest.raises(InputError, match=r"recording 0: .* lie outside 3x6 pixels"):
        fd.load_data(f"{tmp_path}(height=3, width=6)", "train").levels[:1]


def test_what_is_no_recording_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    whole = SAVED.read_bytes()
    for file, message in {
        written("text.aedat", b"hello"): "no file of events that is known",
        written("two.aedat", aedat2(np.zeros(1, dtype=int), np.zeros(1, dtype=int))): "Name it: dvs128, davis240",
        written("cut3.aedat", aedat3(events())[:-9]): "is damaged (a packet of 51 events of 8 bytes does not end)",
        written("cut4.aedat4", whole[: len(whole) // 2]): "is damaged",
        written("header.aedat", b"#!AER-DAT3.1" + b"x" * 70_000): "is damaged (its header does not end)",
        tmp_path / "none.aedat": "no such file of events",
    }.items():
        with pytest.raises(InputError) as found:
            fd.read_events(file)
        assert message in str(found.value)
    with pytest.raises(InputError, match="camera 'dvs' is not known"):
        fd.read_events(tmp_path / "two.aedat", "dvs")
    np.savez(tmp_path / "some.npz", t=[1], x=[1], p=[1])
    np.savez(tmp_path / "bad.npz", t=[1.5], x=[-1], y=[0], p=[1], labels=[0])
    np.savez(tmp_path / "starts.npz", t=[1, 2], x=[0, 0], y=[0, 0], p=[0, 1], starts=[0, 5], labels=[0, 1])
    np.savez(tmp_path / "good.npz", t=[1, 2], x=[0, 0], y=[0, 0], p=[0, 1], starts=[0, 1], labels=[0, 1])
    for name, message in {
        "some": "without y",
        "bad": "recording 0: t: is float64",
        "starts": "nor go beyond its 2",
    }.items():
        with pytest.raises(InputError, match=message):
            fd.load_data(str(tmp_path / f"{name}.npz"), "train")
    for option, message in {
        "most=0": "most is 0",
        "downsample=0": "downsample",
        "stop_us=-1": "stop_us",
        "a=1": "'a'",
    }.items():
        with pytest.raises(InputError, match=message):
            fd.load_data(f"{tmp_path / 'good.npz'}({option})", "train")
    monkeypatch.setattr(event_files, "MOST_BYTES", 100)
    with pytest.raises(InputError, match=r"at most 100 .*Cut it in parts"):
        fd.read_events(tmp_path / "bad.npz")


# --- tonic


def n_mnist(recording: fd.Events) -> bytes:
    """40 bits an event: x, y, polarity and 23 bits of time."""
    t, p = recording.t, recording.p
    columns = [recording.x, recording.y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255]
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def make_tonic_sets(root: Path) -> None:
    """Recordings where tonic would put them."""
    for split in ("Train", "Test"):
        for digit in range(10):
            folder = root / "NMNIST" / split / str(digit)
            folder.mkdir(parents=True)
            (folder / "0.bin").write_bytes(n_mnist(events(digit, (34, 34))))
    for split in ("Train", "Test"):
        folder = root / "DVSGesture" / f"ibmGesture{split}" / "user01_led"
        folder.mkdir(parents=True)
        for gesture in range(11):
            each = events(gesture)
            np.save(folder / f"{gesture}.npy", np.stack([each.x, each.y, each.p, each.t], 1).astype(np.float64))
    for name in tonic.datasets.CIFAR10DVS.classes:
        (root / "CIFAR10DVS" / name).mkdir(parents=True)
        for number in range(5):
            shutil.copy(SAVED, root / "CIFAR10DVS" / name / f"{number}.aedat4")


def test_data_sets_of_tonic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_tonic_sets(tmp_path)
    for name in ("nmnist", "dvs-gesture", "cifar10-dvs"):
        with pytest.raises(InputError, match=r"tonic finds it not complete in .*--download"):
            fd.load_data(name, "test", tmp_path)
    for kind in ("NMNIST", "DVSGesture", "CIFAR10DVS"):  # archives and thousands of files are not made here
        monkeypatch.setattr(getattr(tonic.datasets, kind), "_check_exists", lambda self: True)
    digits = fd.load_data("nmnist", "test", tmp_path)
    assert (digits.shape, digits.labels.tolist(), digits.class_names[3]) == ((2, 34, 34), list(range(10)), "3")
    for number in (0, 7):
        assert np.array_equal(digits.levels[number : number + 1].numpy()[0], events(number, (34, 34)).frame((34, 34)))
    gestures = fd.load_data("dvs-gesture(downsample=4)", "train", tmp_path)
    assert (gestures.shape, gestures.classes, len(gestures.labels)) == ((2, 32, 32), 11, 11)
    chosen = int(gestures.labels[0])
    assert np.array_equal(gestures.levels[:1].numpy()[0], events(chosen).downsampled(4).frame((32, 32)))
    train, test = (fd.load_data("cifar10-dvs", split, tmp_path) for split in ("train", "test"))
    assert (len(train.labels), len(test.labels), train.shape) == (40, 10, (2, 128, 128))
    assert test.labels.tolist() == list(range(10))
    assert test.class_names[:2] == ("airplane", "automobile")
    assert np.array_equal(test.levels[:1].numpy()[0], fd.read_events(SAVED).frame((128, 128)))
    damaged = tmp_path / "DVSGesture" / "ibmGestureTest" / "user01_led" / "0.npy"
    damaged.write_bytes(b"no array")
    with pytest.raises(InputError, match=r"0\.npy cannot be read"):
        fd.load_data("dvs-gesture", "test", tmp_path).levels[:]


def test_moving_digits_are_data_like_any_other(tmp_path: Path):
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"x": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8), "y": np.arange(6)}
    np.savez(tmp_path / "mnist.npz", **{f"{k}_{split}": v for k, v in arrays.items() for split in ("train", "test")})
    data = fd.load_data("moving-mnist(digits=4, most=9)", "train", tmp_path)
    assert (data.shape, len(data.labels), data.highest) == ((2, 34, 34), 4, 9)
    frames = data.levels[:]
    assert int(frames.max()) <= 9
    assert (frames.float().mean((2, 3)) > 0.5).all()
    grid = fd.prepare(_linear(), input_shape=(2, 34, 34), preprocessing=data.preprocessing)
    trains = data.spikes(fd.convert(grid).input, 2000)[:2]
    assert np.array_equal(trains.total(), frames[:2])
    assert trains.dropped.sum() > 0
    with pytest.raises(InputError, match="an event counts 1"):
        fd.load_data("moving-mnist", "test", tmp_path, preprocessing=fd.Preprocessing(step=0.5, levels=(0, 15)))


def _linear() -> Any:
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 34 * 34, 3))
