"""Files as a hostile or careless stranger would change them: mutations that know the structure of each format.

Every mutator takes the bytes of a valid file and a source of chance, and gives other bytes. Most keep a file readable
and change one thing in it, since bytes changed at random rarely come past the first check.
"""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import torch
import yaml

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 8, 9, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, 2**63,
    -(2**63), 2**64, 10**30, 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "x", "0", "-1", "nan", "\x1b[31mred", "[red]x[/red]", "=cmd|'/C calc'!A0", "..", "../../etc/passwd",
    "/etc/passwd", "a/b", "a\\b", "\u202egnp", "\ud7ff", "x" * 5000, "9" * 5000, "\x00", "{}", "[]", "__class__",
    "os.system", "%s%n", "{0.__class__}", "lambda: 1", "Infinity", "2001-99-99", "*a", "&a",
    "!!python/object:os.system", "\n", "é", "🙂",
)  # fmt: skip


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Some bytes are flipped, put in, left out, repeated or cut off; numbers become the ends of their types."""
    held = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(held)) if held else 0
        kind = rng.randrange(7)
        if kind == 0 and held:
            held[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            held[at : at + 1] = rng.randbytes(1)
        elif kind == 2:
            size = rng.choice((1, 2, 4, 8))
            ends = (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, rng.getrandbits(8 * size))
            held[at : at + size] = rng.choice(ends).to_bytes(size, rng.choice(("little", "big")))
        elif kind == 3:
            held[at:at] = rng.randbytes(rng.choice((1, 4, 32)))
        elif kind == 4:
            del held[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 5:
            length = rng.choice((4, 16, 64, 256))
            held[at:at] = held[at : at + length] * rng.choice((1, 2, 20))
        elif rng.random() < 0.3:
            del held[at:]
    return bytes(held)


# plain values


def tree_changed(tree: Any, rng: random.Random) -> Any:
    """A copy of nested tables, lists and values with one to three places changed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return _value(tree, rng)
        holder, key = rng.choice(places)
        _change(holder, key, places, rng)
    return tree


def _places(tree: Any) -> Any:
    if isinstance(tree, (dict, list)):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])


def _change(holder: Any, key: Any, places: list[Any], rng: random.Random) -> None:
    try:
        old = holder[key]
    except (KeyError, IndexError):  # an earlier change has taken it away
        return
    kind = rng.randrange(10)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = rng.choice(places)
        try:
            holder[key] = copy.deepcopy(other[place])
        except (KeyError, IndexError):
            return
    elif kind == 2 and isinstance(holder, dict):
        holder[rng.choice((*TEXTS, str(key) + "_"))] = holder[key] if rng.random() < 0.5 else holder.pop(key)
    elif kind == 2:
        holder.insert(key, copy.deepcopy(old))
    elif kind == 3:
        holder[key] = rng.choice(([old], {"x": old}, [old] * 300, [], {}))
    elif kind == 4:
        for _ in range(rng.choice((3, 60, 200))):
            old = [old] if rng.random() < 0.5 else {"x": old}
        holder[key] = old
    else:
        holder[key] = _value(old, rng)


def _value(old: Any, rng: random.Random) -> Any:
    """Another value, more often of the same type than not."""
    if isinstance(old, torch.Tensor):
        return tensor_changed(old, rng)
    same = rng.random() < 0.6
    if same and isinstance(old, bool):
        return not old
    if same and isinstance(old, (int, float)):
        return rng.choice((*NUMBERS, old + 1, old - 1, -old, old * 1000))
    if same and isinstance(old, str):
        at = rng.randrange(len(old) + 1)
        return rng.choice((*TEXTS, old + rng.choice(TEXTS), old[:at] + rng.choice(TEXTS) + old[at:], old.upper()))
    return rng.choice((None, True, False, [], {}, *NUMBERS, *TEXTS))


def tensor_changed(old: torch.Tensor, rng: random.Random) -> Any:
    """A tensor of another kind, shape or content."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = (
            lambda: old.to_sparse(),
            lambda: old.to(torch.complex64),
            lambda: old.to("meta"),
            lambda: torch.quantize_per_tensor(old.float(), 0.1, 0, torch.qint8),
            lambda: old.to(
                rng.choice((torch.float16, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.uint8))
            ),
            lambda: old.flatten()[:1].expand(10**5, 10**6),
            lambda: old[..., None],
            lambda: old.flatten(),
            lambda: old.T if old.dim() == 2 else old.transpose(0, -1),
            lambda: old[:0],
            lambda: torch.full_like(old, rng.choice((0, 1, -1, float("nan"), float("inf"), 1e30, 1e-30))),
            lambda: old * rng.choice((-1, 0, 1e-6, 1e6, 1000)),
            lambda: torch.nn.Parameter(old.float()),
            lambda: old.tolist(),
            lambda: torch.zeros(()),
        )
        try:
            return rng.choice(made)()
        except (RuntimeError, IndexError, TypeError, ValueError):
            return old[:0] if old.dim() else torch.zeros(3)


def json_changed(data: bytes, rng: random.Random) -> bytes:
    """One to three values of a JSON file are others."""
    return json.dumps(tree_changed(json.loads(data), rng)).encode()


YAML_LINES = (
    "x: &x [*x]", "a: &a [1,1]\nb: [*a,*a]", "<<: *x", "? [a, b]\n: c", "---", "!!set {a}", "k: !!binary x",
    "k: 2001-99-99", "k: 1:59:59", "%YAML 9.9", "\tx: 1", "k: |\n  a",
)  # fmt: skip


def yaml_changed(data: bytes, rng: random.Random) -> bytes:
    """One to three values of a YAML file are others; or it has anchors, tags and blocks where none were."""
    if rng.random() < 0.2:
        lines = data.decode().split("\n")
        at = rng.randrange(len(lines))
        lines.insert(at, rng.choice(YAML_LINES))
        return "\n".join(lines).encode()
    changed = tree_changed(yaml.safe_load(data), rng)
    return yaml.safe_dump(changed, allow_unicode=rng.random() < 0.5).encode("utf-8", "surrogatepass")


# archives


def zip_changed(data: bytes, rng: random.Random) -> bytes:
    """One entry of an archive is changed by what it holds, renamed, doubled or left out; or packed otherwise."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(entries))
    name, content = entries[at]
    kind = rng.randrange(8)
    if kind == 0:
        del entries[at]
    elif kind == 1:
        entries.append((name, rng.choice(entries)[1]))
    elif kind == 2:
        entries[at] = (rng.choice((*TEXTS[1:], name + "x", name.upper(), "../" + name)).replace("\x00", "0"), content)
    elif kind == 3:
        entries[at] = (name, content + bytes(2 ** rng.choice((10, 20, 24))))
    else:
        entries[at] = (name, entry_changed(name, content, rng))
    packed = io.BytesIO()
    how = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", how) as archive:
        warnings.simplefilter("ignore")
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue() if rng.random() < 0.9 else bytes_changed(packed.getvalue(), rng)


def entry_changed(name: str, content: bytes, rng: random.Random) -> bytes:
    """What one file in an archive holds, changed by its kind."""
    if name.endswith(".json") and content[:1] in b"{[":
        return json_changed(content, rng)
    if content.startswith(b"\x93NUMPY"):
        return array_changed(content, rng)
    return bytes_changed(content, rng) if content else rng.randbytes(8)


def array_changed(content: bytes, rng: random.Random) -> bytes:
    """An array in NumPy's format with another shape, type or content; or a header that says so of the same bytes."""
    array = np.load(io.BytesIO(content))
    shape: Any = rng.choice(
        (array.shape, (), (0,), (3, 0, 2), array.shape[::-1], (2**40,), (-1, 4), (2**31, 2**31, 4), ("a",))
    )
    kind = rng.choice(
        ("|u1", "<f4", "<f8", "<i8", ">u2", "|O", "<U5", "<c8", "<M8[s]", "|V9", "|b1", "|S3", "[('a','<i4')]", "x")
    )
    if rng.random() < 0.5:
        header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
        body = content[10 + struct.unpack("<H", content[8:10])[0] :]
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + body
    whole = array.astype(np.int64)
    made = (
        array.astype(float), array.astype("U3"), array[:0], array.ravel(), np.array(3), array * 0 + 255, -whole,
        np.full(array.shape, np.nan), whole * 2**40,
    )  # fmt: skip
    values = rng.choice(made)
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def torch_changed(data: bytes, rng: random.Random) -> bytes:
    """What a file of torch.save holds, changed in one to three places."""
    if rng.random() < 0.25:
        return zip_changed(data, rng)
    content = torch.load(io.BytesIO(data), weights_only=True)
    out = io.BytesIO()
    try:
        torch.save(tree_changed(dict(content), rng), out)
    except Exception:  # a tensor that has no place in a file
        return zip_changed(data, rng)
    return out.getvalue()


# the others


def safetensors_changed(data: bytes, rng: random.Random) -> bytes:
    """The header is changed in one to three places, JSON inside JSON too."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    inner = header.get("__metadata__", {}).get("graph")
    if inner is not None and rng.random() < 0.8:
        header["__metadata__"]["graph"] = json.dumps(tree_changed(json.loads(inner), rng))
    else:
        header = tree_changed(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def hdf5_changed(data: bytes, rng: random.Random) -> bytes:
    """One to three datasets, groups, links or attributes are others."""
    image = io.BytesIO(data)
    with h5py.File(image, "r+") as file:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            names: list[str] = []
            file.visit(names.append)
            try:
                _hdf5_change(file, rng.choice(names), names, rng)
            except (ValueError, TypeError, OSError, RuntimeError, KeyError, OverflowError, AttributeError, IndexError):
                continue  # this change has no place in this file
    return image.getvalue()


def _hdf5_change(file: Any, name: str, names: list[str], rng: random.Random) -> None:
    item = file[name]
    kind = rng.randrange(9)
    if kind == 0:
        del file[name]
    elif kind == 1:
        del file[name]
        file[name] = rng.choice(
            (h5py.SoftLink("/layer/0"), h5py.ExternalLink("/etc/passwd", "/x"), file[rng.choice(names)])
        )
    elif kind == 2:
        file[rng.choice((name + "x", f"{name}/0", "layer/99", "node/nodes/x"))] = rng.choice(
            (1, "x", [1.5], np.zeros((2, 3)))
        )
    elif kind == 3:
        file.attrs[rng.choice((*file.attrs, "x"))] = rng.choice((1, 2, 99, -1, "x", 2.0, [1, 2], np.zeros(3)))
    elif isinstance(item, h5py.Dataset) and item.shape is not None and item.nbytes < 2**24:
        old = item[()]
        del file[name]
        _hdf5_dataset(file, name, old, rng)


def _hdf5_dataset(file: Any, name: str, old: Any, rng: random.Random) -> None:
    """Put another dataset in the place of one."""
    if rng.random() < 0.15:
        shape = rng.choice(((10**7,), (2**33,), (10**5, 10**5), (1,), ()))
        kind = rng.choice(("f4", "i8", h5py.string_dtype(), "S1000"))
        chunks = tuple(min(size, 1000) for size in shape) or None
        file.create_dataset(name, shape=shape, dtype=kind, chunks=chunks, compression="gzip" if chunks else None)
    elif isinstance(old, bytes):
        text = old.decode()
        if text[:1] in ("{", "[") and rng.random() < 0.8:
            text = json.dumps(tree_changed(json.loads(text), rng))
        else:
            text = rng.choice((*TEXTS, text + rng.choice(TEXTS), text.upper()))
        file.create_dataset(name, data=text.replace("\x00", "0"))
    elif isinstance(old, np.ndarray) and old.dtype.kind in "iufb":
        real, few = old.astype("f8"), old[:0] if old.ndim else old
        factor = np.float64(rng.choice((0, 1e-9, 1000, 1e30, float("nan"))))
        made = (real, old.astype("i1"), old[..., None], old.ravel(), few, -real, real * factor, np.repeat(old, 3), "x")
        file.create_dataset(name, data=rng.choice((*made, h5py.Empty("f4"))))
    else:
        file.create_dataset(name, data=_plain(_value(old.item() if isinstance(old, np.generic) else old, rng)))


def _plain(value: Any) -> Any:
    return "x" if value is None or isinstance(value, (dict, list)) else value


def onnx_changed(data: bytes, rng: random.Random) -> bytes:
    """One to three fields of the protobuf are others."""
    import onnx

    model = onnx.load_from_string(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        message, field = rng.choice(list(_protobuf(model)))
        try:
            _protobuf_change(message, field, rng)
        except (ValueError, TypeError, IndexError, AttributeError):
            continue
    image = io.BytesIO()
    onnx.save(model, image)
    return image.getvalue()


def _protobuf(message: Any) -> Any:
    for field, value in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for each in value if hasattr(value, "append") or hasattr(value, "add") else (value,):
                if hasattr(each, "ListFields"):
                    yield from _protobuf(each)


def _protobuf_change(message: Any, field: Any, rng: random.Random) -> None:
    value = getattr(message, field.name)
    kind = rng.randrange(4)
    if kind == 0:
        message.ClearField(field.name)
    elif hasattr(value, "append"):
        at = rng.randrange(len(value))
        if kind == 1:
            del value[at]
        elif kind == 2:
            value.append(copy.deepcopy(value[at]))
        elif not hasattr(value[at], "ListFields"):
            value[at] = _scalar(value[at], rng)
    elif not hasattr(value, "ListFields"):
        setattr(message, field.name, _scalar(value, rng))


def _scalar(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bytes):
        return bytes_changed(value, rng) if value else b"x"
    if isinstance(value, str):
        return rng.choice((*TEXTS, "Relu", "Conv", "Loop", "If", "RandomNormal", "Reshape", "Pad", value + "x"))
    return rng.choice([each for each in (*NUMBERS, 5, 6, 10, value + 1) if isinstance(each, type(value))])


def text_changed(data: bytes, rng: random.Random) -> bytes:
    """Cells of a table, lines and words are others."""
    lines = data.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    place = rng.randrange(len(cells))
    cells[place] = rng.choice((*TEXTS, *map(str, NUMBERS)))
    lines[at] = ",".join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def either(*mutators: Mutator) -> Mutator:
    """The first mostly, else one of the others; bytes, where the change that is wanted has no place in a file."""

    def change(data: bytes, rng: random.Random) -> bytes:
        try:
            return (mutators[0] if rng.random() < 0.75 else rng.choice(mutators))(data, rng)
        except Exception:
            return bytes_changed(data, rng)

    return change
