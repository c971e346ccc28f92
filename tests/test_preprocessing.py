"""One record of what is done to pictures: as torchvision and timm do it, kept in every file, used by every command."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import functional as F

import fastsnn_deploy as fd
from fastsnn_deploy.cli.sources import chosen_preprocessing
from fastsnn_deploy.errors import InputError
from fastsnn_deploy.graph.preprocessing import KEY, Preprocessing
from fastsnn_deploy.training.data import load_images
from tests.commands import Result, runner

SIZES = [(40, 30), (31, 57), (64, 64), (33, 33)]
"""Width and height of the pictures; smaller and larger than what networks take."""

NAMES = ("ant", "bee", "cow")


def photo(number: int) -> Image.Image:
    """Smooth and rough parts, where filters differ; some are grey."""
    rng = np.random.default_rng(number)
    rough = rng.integers(0, 256, (SIZES[number % 4][1], SIZES[number % 4][0], 3), dtype=np.uint8)
    smooth = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize(SIZES[number % 4], 3)
    mixed = Image.blend(Image.fromarray(rough), smooth, 0.6)
    return mixed.convert("L") if number % 5 == 4 else mixed


def write_photos(root: Path, names: tuple[str, ...] = NAMES, count: int = 10) -> Path:
    for split in ("train", "test"):
        for n in range(count * len(names)):
            (root / split / names[n % len(names)]).mkdir(parents=True, exist_ok=True)
            photo(n).save(root / split / names[n % len(names)] / f"{n:02}.png")
    return root


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


# equal to what users compute


@pytest.mark.parametrize(
    "weights",
    [
        models.ResNet18_Weights.IMAGENET1K_V1, models.ResNet50_Weights.IMAGENET1K_V2,
        models.EfficientNet_B0_Weights.IMAGENET1K_V1, models.Inception_V3_Weights.IMAGENET1K_V1,
    ],
    ids=str,
)  # fmt: skip
def test_pictures_equal_those_of_torchvision(weights: Any, tmp_path: Path):
    made = weights.transforms()
    known = fd.preprocessing(weights)
    assert known is not None
    assert known == fd.preprocessing(f"torchvision:{weights.__class__.__name__[:-8].lower()}(weights='{weights.name}')")
    images = load_images(str(write_photos(tmp_path, count=2)), "test", preprocessing=known)
    for number in range(len(images.labels)):
        file = Image.open(images.levels.items.where(number)).convert("RGB")  # type: ignore[union-attr]
        resized = F.resize(file, made.resize_size, made.interpolation, antialias=True)
        expected = F.pil_to_tensor(F.center_crop(resized, made.crop_size))
        assert torch.equal(images.levels[number : number + 1][0], expected)
        assert torch.equal(F.normalize(expected / 255, list(known.mean), list(known.std)), made(file))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "convnext_tiny", "resnetv2_50x1_bit"])
def test_pictures_equal_those_of_timm(name: str, tmp_path: Path):
    import timm

    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    made = timm.data.create_transform(**config)
    known = fd.preprocessing(f"timm:{name}")
    assert known is not None
    images = load_images(str(write_photos(tmp_path, count=2)), "test", preprocessing=known)
    for number in range(len(images.labels)):
        file = Image.open(images.levels.items.where(number)).convert("RGB")  # type: ignore[union-attr]
        found = F.normalize(images.levels[number : number + 1][0] / 255, list(known.mean), list(known.std))
        assert torch.equal(found, made(file))


def test_squashed_pictures_of_timm(tmp_path: Path):
    import timm

    network = nn.Linear(1, 1)
    network.pretrained_cfg = {  # type: ignore[assignment]
        "input_size": (3, 24, 20), "crop_pct": 0.9, "crop_mode": "squash", "interpolation": "bilinear",
        "mean": (0.5,) * 3, "std": (0.5,) * 3, "num_classes": 10,
    }  # fmt: skip
    known = fd.preprocessing(network)
    assert known is not None
    assert (known.resize, known.crop) == ((26, 22), (24, 20))
    made = timm.data.create_transform((3, 24, 20), interpolation="bilinear", crop_pct=0.9, crop_mode="squash",
                                      mean=known.mean, std=known.std)  # fmt: skip
    images = load_images(str(write_photos(tmp_path, count=1)), "test", preprocessing=known)
    file = Image.open(images.levels.items.where(0)).convert("RGB")  # type: ignore[union-attr]
    assert torch.equal(F.normalize(images.levels[:1][0] / 255, [0.5] * 3, [0.5] * 3), made(file))
    network.pretrained_cfg["crop_mode"] = "border"  # type: ignore[index]
    with pytest.raises(InputError, match="crop_mode 'border' are not known"):
        fd.preprocessing(network)


def test_whose_preprocessing_is_known():
    assert fd.preprocessing("torchvision:resnet18(num_classes=10)") is None
    assert fd.preprocessing("timm:resnet18(num_classes=10)") is None
    assert fd.preprocessing("resnet20") is fd.preprocessing(nn.Linear(1, 1)) is None
    assert fd.preprocessing("torchvision:fcn_resnet50") is None
    with pytest.raises(InputError, match="Did you mean IMAGENET1K_V1"):
        fd.preprocessing("torchvision:resnet18(weights='IMAGENET1K_1')")


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_channels(channels: str, tmp_path: Path):
    known = Preprocessing(channels=channels, resize=(9, 8))
    images = load_images(str(write_photos(tmp_path, count=1)), "test", preprocessing=known)
    file = Image.open(images.levels.items.where(0)).convert("L" if channels == "L" else "RGB")  # type: ignore[union-attr]
    pixels = np.array(file.resize((8, 9), Image.Resampling.BILINEAR)).reshape(9, 8, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(images.levels[:1][0], pixels[::-1] if channels == "BGR" else pixels)
    assert not images.grey


def test_arrays_are_resized_as_pictures(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    np.savez(tmp_path / "a-test.npz", images=pixels, labels=np.arange(4))
    np.savez(tmp_path / "b-test.npz", images=pixels[:, :, :, :1] / 255, labels=np.arange(4))
    known = Preprocessing(resize=10, crop=(8, 8))
    images = load_images("a-test.npz", "test", tmp_path, preprocessing=known)
    expected = [F.pil_to_tensor(F.center_crop(F.resize(Image.fromarray(each), [10]), [8, 8])) for each in pixels]
    assert torch.equal(images.levels[:], torch.stack(expected))
    for name in (str(tmp_path / "b-test.npz"), "digits"):
        with pytest.raises(InputError, match="no 8-bit pixels, which could be resized"):
            load_images(name, "test", preprocessing=known)
    sized = load_images("digits", "test", preprocessing=Preprocessing(crop=(8, 8)))
    assert torch.equal(torch.as_tensor(sized.levels), torch.as_tensor(load_images("digits", "test").levels))


def test_real_values_are_rounded_once(tmp_path: Path):
    """To the grid of the network, whatever it is; not to pixels before."""
    values = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32) * 3 - 1
    np.savez(tmp_path / "own.npz", x_train=values, y_train=np.arange(6), x_test=values, y_test=np.arange(6))
    known = Preprocessing(step=1 / 48, levels=(-48, 100), mean=(0.5,), std=(0.7,))
    images = load_images("own.npz", "test", tmp_path, preprocessing=known)
    model = fd.prepare(network(1), preprocessing=known)
    fd.calibrate(model, images)
    graph = fd.convert(model)
    expected = np.floor(values.astype(np.float64) * 48 + 0.5)
    np.testing.assert_array_equal(images.for_input(graph.input), expected)
    np.testing.assert_array_equal(graph.input.encode(values), expected - graph.input.offset.reshape(1, -1, 1, 1))
    with pytest.raises(InputError, match="They seem normalised"):
        load_images("own.npz", "test", tmp_path)


# kept with the network, and used


def network(channels: int = 3, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, classes)
    return nn.Sequential(*layers).eval()


DONE = Preprocessing(resize=12, crop=(8, 8), interpolation="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
OPTIONS = ("--preprocess", "resize=12,crop=8,interpolation=bicubic", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.25")


def test_every_command_uses_what_was_stored(run: Callable[..., Result], tmp_path: Path):
    write_photos(tmp_path / "photos")
    torch.save(network().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), "
        "nn.Flatten(), nn.Linear(36, 3))\n"
    )
    source = ("weights.pt", "--model", "net.py:net", "--data", "photos", *OPTIONS)
    made = run("quantize", *source, "-o", "q.pt", "--iterations", 2, "--json")
    assert made.returncode == 0, made.stderr
    assert run("export", "q.pt").returncode == 0
    for options in (("--target", "stock-lif", "-o", "lif.net"), ("--format", "nir", "-o", "q.nir")):
        assert run("export", "q.pt", *options).returncode == 0
    wanted = Preprocessing(**{**DONE.plain(), "classes": NAMES})
    assert Preprocessing.of(fd.load("q.pt").meta["metadata"]) == wanted
    for file in ("q.net", "lif.net", "q.nir"):
        assert fd.preprocessing(fd.read(file)) == wanted
    shown = run("info", "q.net").stdout
    for words in ("shorter side 12, bicubic", "8x8", "0.4, 0.5, 0.6", "3: ant, bee, cow"):
        assert words in shown
    levels = load_images("photos", "test", preprocessing=DONE)
    expected = fd.evaluate("q.net", levels.levels.numpy(), levels.labels.numpy()).topk[0].correct
    report = json.loads(run("evaluate", "q.net", "--json").stdout)
    assert (report["correct"]["top1"], report["images"]) == (expected, 30)
    assert fd.evaluate("q.net", fd.load_data("photos", preprocessing=DONE)).topk[0].correct == expected
    for command in (
        ("verify", "q.pt", "q.net"), ("verify", "q.pt", "lif.net"), ("profile", "q.net"), ("run", "q.net"),
        ("run", "q.nir"), ("map", "q.net", "--samples", 5), ("check", "q.pt", "--data", "photos"), ("check", *source),
        ("export", "q.pt", "--target", "sigma-delta", "--data", "photos", "-o", "sd.net"),
        ("export", "weights.pt", *source[1:], "--bits", 4, "-o", "e.net"),
    ):  # fmt: skip
        result = run(*command)
        assert result.returncode == 0, (command, result.stdout, result.stderr)
        assert "warning" not in result.stderr, result.stderr
    assert fd.preprocessing(fd.read("e.net")) == wanted
    with pytest.warns(UserWarning, match="not preprocessed as the network says: resize 9 in place of 12"):
        other = run("evaluate", "q.net", "--preprocess", "resize=9", "--json")
    assert json.loads(other.stdout)["images"] == 30
    for text, message in (
        ("step=0.5", "step and levels are part of the network's integers"), ("size=3", "Known: channels, classes"),
        ("resize=0", "must be a shorter side"), ("crop=3x", "sizes are written as 256"),
    ):  # fmt: skip
        refused = run("evaluate", "q.net", "--preprocess", text)
        assert refused.returncode == 2
        assert message in " ".join(refused.stderr.split())


def test_training_stores_it_too(run: Callable[..., Result], tmp_path: Path):
    write_photos(tmp_path / "photos", count=4)
    (tmp_path / "r.yaml").write_text(
        "name: r\ndata: photos\nmodel: net.py:net\nbatch_size: 6\nnormalisation: {mean: [0.5], std: [0.25]}\n"
        "preprocess: resize=8x8,channels=L\nstages: [{epochs: 1, learning_rate: 0.01, bits: 2}]\n"
    )
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net(channels, classes):\n    return nn.Sequential(nn.Conv2d(channels, 8, 3), "
        "nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, classes))\n"
    )
    assert run("train", "--recipe", "r.yaml", "-o", "t.pt").returncode == 0
    known = Preprocessing.of(fd.load("t.pt").meta["metadata"])
    assert known == Preprocessing("L", (8, 8), mean=(0.5,), std=(0.25,), classes=NAMES)
    tuned = run("finetune", "t.pt", "-o", "u.pt", "--images", 8, "--held-out", 4, "--batch", 4)
    assert tuned.returncode == 0, tuned.stderr
    assert Preprocessing.of(fd.load("u.pt").meta["metadata"]) == known
    assert run("export", "u.pt").returncode == 0
    assert json.loads(run("evaluate", "u.net", "--json").stdout)["images"] == 12


def test_published_preprocessing_is_taken_and_said():
    own = Preprocessing(mean=(0.1,), std=(0.2,), classes=NAMES)
    choose, notes = chosen_preprocessing("torchvision:resnet50", None, None, None)
    published = fd.preprocessing("torchvision:resnet50")
    assert published is not None
    assert choose(own) == Preprocessing(**{**published.plain(), "classes": NAMES})
    assert notes[0].endswith(
        "say: channels RGB, resize shorter side 232, bilinear, crop 224x224, mean 0.485, 0.456, 0.406, std 0.229, "
        "0.224, 0.225"
    )
    choose, _ = chosen_preprocessing("timm:resnet18", "resize=none,crop=64", "0.5", "0.25")
    assert choose(own) == Preprocessing("RGB", None, "bicubic", (64, 64), mean=(0.5,), std=(0.25,), classes=NAMES)
    choose, notes = chosen_preprocessing("torchvision:resnet50(num_classes=3)", None, None, None)
    assert choose(own) == own
    assert notes[0].endswith(
        "it would be --preprocess resize=232,crop=224x224,interpolation=bilinear --mean 0.485,0.456,0.406 --std "
        "0.229,0.224,0.225"
    )
    assert chosen_preprocessing("net.py:net", None, None, None)[1] == ()


def test_names_of_fewer_classes_than_outputs_are_not_those_of_the_outputs():
    model = fd.prepare(network(), preprocessing=Preprocessing(classes=("a", "b")), input_shape=(3, 8, 8))
    fd.calibrate(model, torch.rand(4, 3, 8, 8))
    assert fd.preprocessing(fd.convert(model)) == Preprocessing()


# in Python


def test_in_python_it_goes_with_the_images(tmp_path: Path):
    write_photos(tmp_path)
    images = fd.load_data(str(tmp_path), "train", preprocessing=DONE)
    model = fd.prepare(network(), preprocessing=images.preprocessing)
    fd.calibrate(model, images)
    fd.save(model, tmp_path / "m.pt")
    again = fd.load(tmp_path / "m.pt")
    assert fd.preprocessing(again) == Preprocessing(**{**DONE.plain(), "classes": NAMES})
    found = fd.quantize(network(), images, preprocessing=images.preprocessing, iterations=1, stages=())
    assert fd.preprocessing(found.model) == fd.preprocessing(again)
    with pytest.raises(InputError, match="Leave out mean, input_step"):
        fd.prepare(network(), preprocessing=DONE, mean=(0.3,), input_step=0.1)
    plain = fd.prepare(network(), mean=(0.3,), std=(0.2,))
    assert fd.preprocessing(plain) == Preprocessing(mean=(0.3,), std=(0.2,))


# classes


def test_labels_follow_the_names_of_classes(tmp_path: Path):
    write_photos(tmp_path / "all", ("ant", "bee", "cow"), count=2)
    write_photos(tmp_path / "some", ("bee", "cow"), count=2)
    write_photos(tmp_path / "other", ("ant", "bee", "dog"), count=2)
    known = {KEY: Preprocessing(resize=(8, 8), classes=("cow", "ant", "bee")).text()}
    with pytest.warns(UserWarning, match="names its classes in another order than the network; labels follow"):
        found = load_images(str(tmp_path / "all"), "test").suited(known)
    assert found.labels.tolist() == [1, 1, 2, 2, 0, 0]
    with pytest.warns(UserWarning, match="has 2 of the network's 3 classes, without ant; labels follow the names"):
        found = load_images(str(tmp_path / "some"), "test").suited(known)
    assert (found.labels.tolist(), found.classes) == ([2, 2, 0, 0], 3)
    with pytest.raises(
        InputError, match=r"1 of its 3 classes are none of the network's \(dog; the network has cow, ant"
    ):
        load_images(str(tmp_path / "other"), "test", preprocessing=Preprocessing(classes=("cow", "ant", "bee")))


def test_classes_by_number_where_it_is_asked_for(run: Callable[..., Result], tmp_path: Path):
    write_photos(tmp_path / "named", count=2)
    write_photos(tmp_path / "other", ("x", "y", "z"), count=2)
    images = fd.load_data("named", "train", tmp_path, preprocessing=DONE)
    model = fd.prepare(network(), preprocessing=images.preprocessing)
    fd.calibrate(model, images)
    fd.export(fd.convert(model), tmp_path / "a.net")
    refused = run("evaluate", "a.net", "--data", "other")
    assert refused.returncode == 2
    assert "--preprocess classes=none" in " ".join(refused.stderr.split())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run("evaluate", "a.net", "--data", "other", "--preprocess", "classes=none", "--json")
    assert json.loads(result.stdout)["images"] == 6


def test_metadata_that_are_damaged(tmp_path: Path):
    for text in ("[1", '{"resize": "x"}', "3", '{"mean": [NaN]}', '{"classes": ["a", "a"]}'):
        with pytest.raises(InputError, match="metadata 'preprocessing' are damaged"):
            Preprocessing.of({KEY: text})
    assert Preprocessing.of({}) is None
    assert Preprocessing.of({KEY: '{"resize": 3, "unknown": 1}'}) == Preprocessing(resize=3)
