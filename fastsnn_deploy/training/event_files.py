"""Files of events: AEDAT 2, 3.1 and 4, and .npz. Nothing in them runs, and sizes are bounded."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.files import readable_file
from fastsnn_deploy.graph.events import Events
from fastsnn_deploy.reading import read_arrays

Words = npt.NDArray[np.integer]

MARK = b"#!AER-DAT"
"""How files of every version of AEDAT begin."""

MOST_BYTES = 2**30
"""Of one file of a recording: read as a whole."""

NAMES = ("t", "x", "y", "p")
"""Arrays of an .npz file of events."""

HEADER = 65_536
"""Bytes of comments before the events, at most."""

Address = Callable[[Words], tuple[Words, Words, Words]]

CAMERAS: dict[str, Address] = {
    "dvs128": lambda a: ((a >> 8) & 0x7F, (a >> 1) & 0x7F, a & 1),
    "davis240": lambda a: (239 - ((a >> 12) & 0x3FF), 179 - ((a >> 22) & 0x1FF), (a >> 11) & 1),
    "davis346": lambda a: (345 - ((a >> 12) & 0x3FF), 259 - ((a >> 22) & 0x1FF), (a >> 11) & 1),
}
"""Column, row and polarity in the addresses of AEDAT 2, which does not say what camera wrote it.

Source: jAER's chips DVS128, Davis240C and Davis346, as in the readers of tonic (`tonic.io`) and of
https://gitlab.com/inivation/AedatTools; the origin is at the upper left.
"""

SIZES = {"dvs128": (128, 128), "davis240": (180, 240), "davis346": (260, 346)}
"""(H, W) of these cameras."""


def read_events(path: str | Path, camera: str | None = None) -> Events:
    """One recording of an event camera, in the order of time.

    Args:
        path: AEDAT 4 (needs `aedat`, of the extra `events`), AEDAT 3.1 or 2, or .npz with integer arrays t
            (microseconds), x, y and p.
        camera: Of AEDAT 2: "dvs128", "davis240" or "davis346".

    Returns:
        The events.

    Raises:
        InputError: a missing or damaged file, one beyond a gigabyte, or one of AEDAT 2 without its camera.
    """
    file = readable_file(path, "file of events")
    if (size := file.stat().st_size) > MOST_BYTES:
        raise InputError(f"{file}: has {size:,} bytes, at most {MOST_BYTES:,} are read. Cut it in parts")
    if zipfile.is_zipfile(file):
        arrays, others = npz_arrays(file)
        if np.size(others.get("starts", 0)) > 1:
            raise InputError(f"{file}: holds {len(others['starts'])} recordings. Read them with load_data")
        return _checked(file, arrays)
    with file.open("rb") as stream:
        start = stream.read(len(MARK) + 3)
    found = re.match(MARK + rb"(\d)\.(\d)", start)
    version = b"" if found is None else found[1]
    if version == b"4":
        return _aedat4(file)
    if version not in (b"2", b"3"):
        raise InputError(f"{file}: is no file of events that is known: AEDAT 2, 3.1 and 4, and .npz with t, x, y and p")
    try:
        return _aedat3(file) if version == b"3" else _aedat2(file, camera)
    except (ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: is damaged ({error})") from error


def npz_arrays(file: Path) -> tuple[list[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """(t, x, y and p of all events of an .npz file, its other arrays). Raises InputError."""
    held = read_arrays(file)
    if missing := [name for name in NAMES if name not in held]:
        raise InputError(f"{file}: holds {', '.join(held)}, without {', '.join(missing)}. Name them so")
    return [held[name] for name in NAMES], {name: held[name] for name in held if name not in NAMES}


def _checked(file: Path, arrays: list[npt.NDArray[Any]]) -> Events:
    try:
        return Events(*arrays)
    except InputError as error:
        raise InputError(f"{file}: {error.message}", error.problems) from error


def _comments(data: bytes) -> int:
    """Bytes before the events: lines that begin with #, and of AEDAT 3 the line that ends them."""
    at = 0
    while data[at : at + 1] == b"#":
        end = data.find(b"\n", at, HEADER)
        if end < 0:
            raise ValueError("its header does not end")
        at = end + 1
        if data[:at].rstrip().endswith(b"#!END-HEADER"):
            break
    return at


def _aedat2(file: Path, camera: str | None) -> Events:
    """Pairs of 32 bits, address and time, most significant byte first; bit 31 of the address is not an event's."""
    if camera is None:
        raise InputError(f"{file}: AEDAT 2 does not say what camera it is of. Name it: {', '.join(CAMERAS)}")
    address = CAMERAS[known_name("camera", camera, CAMERAS)]
    data = file.read_bytes()
    start = _comments(data)
    pairs = np.frombuffer(data, dtype=">u4", offset=start, count=(len(data) - start) // 4 // 2 * 2).reshape(-1, 2)
    words = pairs[:, 0].astype(np.int64)
    polarity = words & (1 << 31) == 0
    times = np.unwrap(pairs[polarity, 1].astype(np.int64), period=2**32)
    x, y, p = address(words[polarity])
    return Events(times, x, y, p)


POLARITY_EVENTS = 1


def _aedat3(file: Path) -> Events:
    """Packets with a header of 28 bytes; those of polarity events hold pairs of 32 bits, address and time."""
    data = file.read_bytes()
    at, parts = _comments(data), [np.zeros((2, 0), dtype=np.int64)]
    while at < len(data):
        kind, _ = np.frombuffer(data, dtype="<u2", offset=at, count=2)
        size, _, overflow, capacity, number, _ = np.frombuffer(data, dtype="<u4", offset=at + 4, count=6).tolist()
        body, at = at + 28, at + 28 + size * capacity
        if at > len(data) or number > capacity:
            raise ValueError(f"a packet of {capacity:,} events of {size} bytes does not end")
        if kind == POLARITY_EVENTS:
            words = np.frombuffer(data, dtype="<u4", offset=body, count=2 * number).reshape(-1, 2).astype(np.int64)
            words = words[words[:, 0] & 1 == 1]  # the others were made invalid
            parts.append(np.stack([words[:, 0], words[:, 1] + (overflow << 31)]))
    address, times = np.concatenate(parts, axis=1)
    return Events(times, (address >> 17) & 0x7FFF, (address >> 2) & 0x7FFF, (address >> 1) & 1)


def _aedat4(file: Path) -> Events:
    try:
        import aedat
    except ImportError as error:
        raise InputError(f"{file}: AEDAT 4 needs aedat. Install it with `pip install aedat`") from error
    try:
        decoder = aedat.Decoder(str(file))
        streams = [number for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"]
        packets = [packet["events"] for packet in decoder if packet["stream_id"] in streams[:1]]
    except Exception as error:  # whatever the decoder's own code may set off
        raise InputError(f"{file}: is damaged ({error})") from error
    if not streams:
        raise InputError(f"{file}: holds no events")
    none = np.zeros(0, dtype=np.int64)
    return Events(*(np.concatenate([none, *(each[name].astype(np.int64) for each in packets)]) for name in NAMES))
