"""Data as people have it: every kind gives the same images and labels, and nothing that is wrong goes by unsaid."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastsnn_deploy as fd
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.pictures import Pictures
from fastsnn_deploy.training.sources import datasets as torch_sets
from fastsnn_deploy.training.sources.webdataset import braces

NAMES = ("bee", "cow", "eel")
SAVED = Path(__file__).parent / "saved_dataset"
"""What `datasets` 5.2.0 wrote with `save_to_disk`: the first four images to learn from, the first two for the test."""

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 8, 9, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
SPLITS = {"train": slice(0, 9), "test": slice(9, 12)}


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def write_folder(root: Path) -> None:
    for split, chosen in SPLITS.items():
        for n in range(12)[chosen]:
            (root / split / NAMES[LABELS[n]]).mkdir(parents=True, exist_ok=True)
            (root / split / NAMES[LABELS[n]] / f"{n:02}.png").write_bytes(png(PIXELS[n]))


def write_tar(file: Path, members: Sequence[tuple[str, bytes]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_shards(root: Path, label: Callable[[int], tuple[str, bytes]]) -> None:
    for split, chosen in SPLITS.items():
        for shard, part in enumerate(np.array_split(np.arange(12)[chosen], 2)):
            pairs = [((f"a/{n}.png", png(PIXELS[n])), (f"a/{n}.{label(n)[0]}", label(n)[1])) for n in part]
            write_tar(root / f"{split}-{shard:02}.tar", [member for pair in pairs for member in pair])


def write_table(root: Path, names: Sequence[str] | None, ending: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    features = {"pic": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": names}}
    said = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for split, chosen in SPLITS.items():
        rows = range(12)[chosen]
        pictures = pa.array([{"bytes": png(PIXELS[n]), "path": None} for n in rows])
        kinds = pa.array([int(LABELS[n]) if names else NAMES[LABELS[n]] for n in rows])
        table = pa.table({"pic": pictures, "kind": kinds, "other": kinds})
        table = table.replace_schema_metadata(said if names else None)
        if ending == "parquet":
            pq.write_table(table, root / f"{split}-00000-of-00001.parquet", row_group_size=2)
        else:
            with pa.OSFile(str(root / f"{split}.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)


MODULE = """
import numpy as np
from PIL import Image
from torch.utils.data import Dataset

class Own(Dataset):
    def __init__(self, split, pillow):
        held = np.load("all.npz")
        self.pixels, self.labels, self.pillow = held[f"x_{split}"], held[f"y_{split}"], pillow

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        pixels = self.pixels[index]
        return (Image.fromarray(pixels) if self.pillow else pixels.transpose(2, 0, 1)), int(self.labels[index])

def pictures(split):
    return Own(split, True)

def arrays(split):
    return Own(split, False)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every kind of data, with the same images; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    write_folder(tmp_path / "classes")
    arrays = {f"{key}_{split}": held[chosen] for split, chosen in SPLITS.items() for key, held in
              (("x", PIXELS), ("y", LABELS))}  # fmt: skip
    np.savez("all.npz", classes=np.array(NAMES), **arrays)
    np.savez("real.npz", **{name: held / np.float32(255) if name[0] == "x" else held for name, held in arrays.items()})
    write_shards(tmp_path / "numbers", lambda n: ("cls", str(LABELS[n]).encode()))
    write_shards(tmp_path / "names", lambda n: ("cls", NAMES[LABELS[n]].encode()))
    write_shards(tmp_path / "json", lambda n: ("json", json.dumps({"label": int(LABELS[n]), "text": "x"}).encode()))
    write_table(tmp_path / "parquet", NAMES, "parquet")
    write_table(tmp_path / "arrow", NAMES, "arrow")
    (tmp_path / "own.py").write_text(MODULE)
    return tmp_path


KINDS = {
    "a folder": ("classes", NAMES),
    "an .npz file": ("all.npz", NAMES),
    "real values": ("real.npz", ()),
    "shards": ("numbers", ()),
    "a pattern": ("numbers/train-{00..01}.tar", ()),
    "names in shards": ("names", NAMES),
    "json in shards": ("json", ()),
    "parquet": ("parquet", NAMES),
    "arrow": ("arrow", NAMES),
    "arrow, by column": ("arrow(image='pic', label='other')", ()),
    "a function": ("own:pictures", ()),
    "a function of arrays": ("own.py:arrays", ()),
}


@pytest.mark.parametrize(("name", "names"), KINDS.values(), ids=KINDS)
def test_every_kind_gives_the_same(name: str, names: tuple[str, ...], here: Path):
    for split, chosen in SPLITS.items():
        images = load_images(name, split)
        assert images.class_names == names
        assert images.classes == 3
        order = torch.argsort(images.labels, stable=True)  # folders come class by class
        expected = np.argsort(LABELS[chosen], kind="stable")
        found = images.select(order)
        np.testing.assert_array_equal(found.levels, PIXELS[chosen][expected].transpose(0, 3, 1, 2))
        assert found.labels.tolist() == LABELS[chosen][expected].tolist()
        assert found.shape == (3, 8, 9)


def test_what_datasets_itself_has_written():
    for split, count in (("train", 4), ("test", 2)):
        images = load_images(str(SAVED), split)
        assert (len(images.labels), images.class_names) == (count, NAMES)
        np.testing.assert_array_equal(images.levels, PIXELS[:count].transpose(0, 3, 1, 2))
        assert images.labels.tolist() == LABELS[:count].tolist()


def test_nothing_is_read_before_it_is_asked_for(here: Path):
    for name in ("classes", "numbers", "parquet", "own:pictures"):
        images = load_images(name, "train")
        assert isinstance(images.levels, Pictures)
        some = images.select(torch.tensor([7, 2])).select(slice(1, None))
        assert isinstance(some.levels, Pictures)
        assert torch.equal(some.levels[:], images.levels[2:3])
        assert isinstance(images.held().levels, torch.Tensor)


def test_without_a_split_every_fifth_image_is_for_the_test(here: Path):
    import pyarrow.parquet as pq

    every = [(f"{n}.jpg.png", png(PIXELS[n])) for n in range(12)] + [(f"{n}.cls", b"1") for n in range(12)]
    write_tar(here / "one.tar", every)
    pq.write_table(pq.read_table("parquet/train-00000-of-00001.parquet"), "one.parquet")
    for name, counts in (("one.tar", (9, 3)), ("one.parquet", (7, 2))):
        assert tuple(len(load_images(name, split).labels) for split in ("train", "test")) == counts


# torchvision's own


def test_data_sets_of_torchvision(tmp_path: Path):
    for split, folder in (("Training", "GTSRB/GTSRB/Training"), ("Final_Test", "GTSRB/GTSRB/Final_Test/Images")):
        for number in range(2):
            place = tmp_path / folder.replace("GTSRB/", "gtsrb/", 1) / (f"{number:05}" if split == "Training" else "")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[number]).save(place / f"{number:05}.ppm")
    (tmp_path / "gtsrb/GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;7\n00001.ppm;4\n")
    test = load_images("torchvision:GTSRB", "test", tmp_path)
    np.testing.assert_array_equal(test.levels, PIXELS[:2].transpose(0, 3, 1, 2))
    assert (test.labels.tolist(), load_images("gtsrb", "train", tmp_path).labels.tolist()) == ([7, 4], [0, 1])
    grey = PIXELS[:2, :8, :8, 0]
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        sizes = np.array([2, 8, 8], dtype=">i4").tobytes()
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + grey.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[:4] + bytes([9, 1]))
    fashion = load_images("FashionMNIST", "test", tmp_path)
    assert (fashion.shape, fashion.labels.tolist(), fashion.class_names[9]) == ((3, 8, 8), [9, 1], "Ankle boot")
    assert fashion.grey
    made = load_images("FakeData(size=15, image_size=(3, 5, 6), num_classes=4)", "test")
    assert (made.shape, len(made.labels)) == ((3, 5, 6), 3)
    for name, message in (
        ("torchvision:SVNH", "Did you mean SVHN"), ("SVHN", "--data-root, or pass --download"),
        ("FakeData(sizes=3)", r"sizes.*Options are written as"), ("EMNIST", "split"),
        ("torchvision:CocoDetection", "none of torchvision's that hold an image and a class number"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_images(name, "test", tmp_path)


class Trap:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemError('unpickled')",)


def test_pickles_of_cifar_are_those_that_were_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """CIFAR's own files are pickles: torchvision checks their published digests before it opens them."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    trap = pickle.dumps(Trap())
    for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], "")):
        (folder / name).write_bytes(trap)
    for name in ("cifar10", "torchvision:CIFAR10"):
        with pytest.raises(InputError, match="not found or corrupted"):
            load_images(name, "test", tmp_path)
    batch = pickle.dumps({"data": np.zeros((12, 3072), np.uint8), "labels": LABELS.tolist()})
    meta = pickle.dumps({"label_names": [f"class{n}" for n in range(10)]})
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", hashlib.md5(batch).hexdigest()]])
    monkeypatch.setattr(CIFAR10, "train_list", [])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": hashlib.md5(meta).hexdigest()})
    (folder / "test_batch").write_bytes(batch)
    (folder / "batches.meta").write_bytes(meta)
    images = load_images("torchvision:CIFAR10", "test", tmp_path)
    assert (images.shape, images.class_names[3], images.mean[0]) == ((3, 32, 32), "class3", 0.4914)
    assert images.labels.tolist() == LABELS.tolist()


# what is wrong with pictures


def test_pictures_of_every_mode_are_as_torchvision_loads_them(tmp_path: Path):
    from torchvision.datasets import ImageFolder

    rng = np.random.default_rng(1)
    colour, alpha = Image.fromarray(PIXELS[0]), Image.fromarray(rng.integers(0, 256, (8, 9), dtype=np.uint8))
    see_through = colour.copy()
    see_through.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by the camera
    kinds = {
        "rgb.png": colour, "grey.png": alpha, "palette.png": colour.quantize(16), "rgba.png": see_through,
        "la.png": Image.merge("LA", (alpha, alpha)), "one.png": alpha.convert("1"), "cmyk.jpg": colour.convert("CMYK"),
        "rgb.jpg": colour, "rgb.webp": colour, "rgb.bmp": colour,
    }  # fmt: skip
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name, image in kinds.items():
            image.save(tmp_path / folder / name, **({"transparency": 3} if name == "palette.png" else {}))
        colour.save(tmp_path / folder / "turned.jpg", exif=exif)
    images = load_images(str(tmp_path), "train")
    theirs = ImageFolder(str(tmp_path))
    files = {path: np.array(theirs[n][0]).transpose(2, 0, 1) for n, (path, _) in enumerate(theirs.samples)}
    assert isinstance(images.levels, Pictures)
    for number, levels in zip(images.levels.chosen, images.levels.numpy(), strict=True):
        np.testing.assert_array_equal(levels, files[images.levels.items.where(int(number))])


def test_everything_that_is_wrong_is_said_at_once(here: Path):
    folder = here / "classes" / "train"
    (folder / "bee" / "00.png").write_bytes(b"nonsense")
    Image.fromarray(np.zeros((8, 9), np.uint16)).save(folder / "bee" / "03.png")
    Image.new("RGB", (9, 9)).save(folder / "cow" / "01.png")
    with pytest.raises(InputError, match="3 of 9 images cannot be used") as caught:
        load_images("classes", "train", here)
    told = str(caught.value)
    for part in ("00.png: cannot be read as an image", "03.png: has pixels of mode I", "01.png: is not 9x8 pixels"):
        assert part in told
    write_folder(here / "classes")
    images = load_images("classes", "train", here)
    for file in ("eel/02.png", "eel/05.png"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2])
    images.check()  # cut off: seen when it is decoded
    with pytest.raises(InputError, match="2 of 9 images cannot be used") as caught:
        images.levels[:]
    assert {problem.where[-9:] for problem in caught.value.problems} == {"el/02.png", "el/05.png"}


def test_folders_with_too_little(here: Path):
    for name in ("ant", "yak"):
        (here / "classes" / "train" / name).mkdir()
        (here / "classes" / "test" / name).mkdir()
    with pytest.raises(InputError, match="2 of 5 classes have no images") as caught:
        load_images("classes", "train")
    assert [problem.where.rpartition("/")[2] for problem in caught.value.problems] == ["ant", "yak"]
    (here / "one" / "only").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(here / "one" / "only" / "a.png")
    with pytest.raises(InputError, match="holds one class only, 'only'"):
        load_images("one", "train")


# archives


def test_shards_that_cannot_be_used(here: Path, tmp_path: Path):
    image = png(PIXELS[0])
    loud = [("a.png", image), ("b.png", image), ("b.cls", b"1"), ("c.png", image), ("c.json", b'{"text": "no"}')]
    cases = {
        "label": (loud, r"2 of 3 samples cannot be used.*(?s:.*)neither \.cls nor \.json(?s:.*)has no label, cls"),
        "pickle": ([("a.pyd", pickle.dumps(Trap())), ("a.pth", b"x"), ("a.cls", b"1")], "hold no images"),
        "minus": ([("a.png", image), ("a.cls", b"-1")], "1 of 1 images have no label"),
    }
    for name, (members, message) in cases.items():
        write_tar(here / f"{name}.tar", members)
        with pytest.raises(InputError, match=message):
            load_images(f"{name}.tar", "train")
    write_tar(here / "whole.tar", [(f"{n}.png", image) for n in range(6)] + [(f"{n}.cls", b"0") for n in range(6)])
    content = (here / "whole.tar").read_bytes()
    (here / "cut.tar").write_bytes(content[:700])
    (here / "packed.tar").write_bytes(gzip.compress(content))
    for name, message in (
        ("cut.tar", "no tar archive or is damaged"), ("packed.tar", r"compressed \(gzip\)"),
        ("gone-{0..2}.tar", "3 of 3 archives are not there"), ("numbers/train-{00..02}.tar", "train-02.tar is missing"),
        ("x-{0..9999999}.tar", "more than 100,000 archives"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_images(name, "train")


def test_nothing_leaves_an_archive(here: Path):
    """Members that point elsewhere, links and devices, are not followed; nothing is written."""
    image, outside = png(PIXELS[0]), png(PIXELS[1])
    (here / "secret.png").write_bytes(outside)
    before = sorted(here.rglob("*"))
    with tarfile.open(here / "evil.tar", "w") as archive:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE), ("d.png", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(here / "secret.png")
            archive.addfile(info)
        members = {"../../up.png": image, "../../up.cls": b"0", "/etc/x.png": image, "/etc/x.cls": b"1"}
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    images = load_images("evil.tar", "train")
    every = [*images.levels.numpy(), *load_images("evil.tar", "test").levels.numpy()]
    assert len(every) == 2
    assert all(np.array_equal(each, PIXELS[0].transpose(2, 0, 1)) for each in every)
    assert sorted(here.rglob("*")) == sorted([*before, here / "evil.tar"])


def test_patterns_of_shells():
    assert list(braces("a{0..1}-{x,y}.tar")) == ["a0-x.tar", "a0-y.tar", "a1-x.tar", "a1-y.tar"]


# tables


def test_tables_that_cannot_be_used(here: Path, monkeypatch: pytest.MonkeyPatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = pa.array([{"bytes": png(PIXELS[0]), "path": None}] * 5)
    paths = pa.array([{"bytes": None, "path": "/etc/passwd"}] * 5)
    for name, columns, message in (
        ("no-image", {"a": pictures, "label": pa.array([0] * 5)}, r"no column of images that is known.*a, label"),
        ("no-label", {"image": pictures, "b": pa.array([0] * 5)}, "no column of labels"),
        ("unlabelled", {"image": pictures, "label": pa.array([-1] * 5)}, "5 of 5 images have no label"),
        ("missing", {"image": pictures, "label": pa.array([0, None, 1, 1, 1])}, "1 of 5 images have no label"),
        ("float", {"image": pictures, "label": pa.array([0.5] * 5)}, "a label is 0.5"),
        ("paths", {"image": paths, "label": pa.array([0] * 5)}, "is only a path"),
    ):
        pq.write_table(pa.table(columns), f"{name}.parquet")
        with pytest.raises(InputError, match=message):
            load_images(f"{name}.parquet", "train")
    content = Path("missing.parquet").read_bytes()
    Path("cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        load_images("cut.parquet", "train")
    with pytest.raises(InputError, match=r"option 'images' is not known\. Known: image, label, split"):
        load_images("parquet(images='pic')", "train")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow. Install it with `pip install fastsnn-deploy\[datasets\]`"):
        load_images("parquet", "train")


# functions


def test_labels_are_found_where_data_sets_keep_them(here: Path):
    class Counted:
        def __init__(self, targets: list[int]) -> None:
            self.targets, self.reads = targets, 0

        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> tuple[Any, int]:
            self.reads += 1
            return Image.fromarray(PIXELS[index]), index

    kept, lying = Counted([0, 1, 2, 3, 4]), Counted([4, 3, 2, 1, 0])
    assert torch_sets.of_dataset(kept, "kept").labels.tolist() == [0, 1, 2, 3, 4]
    assert torch_sets.of_dataset(lying, "lying").labels.tolist() == [0, 1, 2, 3, 4]
    assert kept.reads < lying.reads


def test_arrays_too_large_for_memory_are_read_one_by_one(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_sets, "IN_MEMORY", 100)
    images = load_images("own.py:arrays", "test")
    np.testing.assert_array_equal(images.levels, PIXELS[9:].transpose(0, 3, 1, 2))
    assert images.labels.tolist() == [0, 1, 2]
    assert fd.load_data("own.py:arrays", "test").select(slice(1, 2)).levels.shape == (1, 3, 8, 9)
