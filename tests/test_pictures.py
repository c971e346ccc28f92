"""Folders of images that are too large for memory."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training.data import load_images
from fastsnn_deploy.training.pictures import Pictures
from fastsnn_deploy.training.recipe import Recipe, Stage
from fastsnn_deploy.training.trainer import Trainer


def test_large_folders_stay_in_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for split, label, i in product(("train", "test"), ("cat", "dog"), range(3)):
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / label / f"{i}.png")
    whole = load_images("folder", "train", tmp_path).held()
    monkeypatch.setattr("fastsnn_deploy.training.images.IN_MEMORY", 100)
    images = load_images("folder", "train", tmp_path)
    assert isinstance(images.levels, Pictures)
    assert (images.shape, images.mean, len(images.levels)) == (whole.shape, whole.mean, 6)
    assert torch.equal(images.labels, whole.labels)
    for index in (slice(0, 4), slice(4, 4), slice(None, None, -2), torch.tensor([5, 0, 0])):
        expected = whole.levels[np.arange(6)[index].copy()]
        assert torch.equal(images.levels[index], expected)
        assert torch.equal(images.raw(index), expected.float() * (1 / 255))
    np.testing.assert_array_equal(images.levels.numpy(), whole.levels.numpy())

    recipe = Recipe(
        name="small", data="folder", model="vgg11", model_options={"width": 2}, batch_size=2,
        stages=(Stage(epochs=1, learning_rate=0.1, bits=2),),
    )  # fmt: skip
    streamed = Trainer(recipe, tmp_path / "model.pt", data_root=tmp_path).run().model.state_dict()
    monkeypatch.setattr("fastsnn_deploy.training.images.IN_MEMORY", 2**30)
    held = Trainer(recipe, tmp_path / "model.pt", data_root=tmp_path).run().model.state_dict()
    assert all(torch.equal(streamed[name], held[name]) for name in held)

    file = tmp_path / "train" / "dog" / "1.png"
    Image.new("RGB", (5, 6)).save(file)
    with pytest.raises(InputError, match=r"1.png: is not 32x32 pixels.*Resize them all"):
        images.levels[:]
    file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"1.png: cannot be read as an image"):
        images.levels[:]
