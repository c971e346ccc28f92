"""Augmentation against slow loops, and the same for an image whatever its share of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.training.augmentation import augment, draw
from fastsnn_deploy.training.recipe import Augment, Recipe
from fastsnn_deploy.training.trainer import Trainer

MEAN = torch.tensor([7, 9], dtype=torch.uint8)


def levels(count: int = 6, channels: int = 2, height: int = 5, width: int = 4) -> Tensor:
    size = (count, channels, height, width)
    return torch.randint(1, 256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def changed(images: Tensor, chosen: Augment, seed: int = 2, mean: Tensor = MEAN) -> Tensor:
    height, width = images.shape[2:]
    draws = draw(chosen, len(images), (height, width), torch.Generator().manual_seed(seed))
    return augment(images, chosen, draws, mean)


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_moves_and_mirrors_equal_a_slow_loop(shift: int, flip: bool) -> None:
    images = levels()
    generator = torch.Generator().manual_seed(2)
    mirrored = (torch.rand(6, generator=generator) < 0.5).tolist() if flip else [False] * 6
    offsets = torch.randint(2 * shift + 1, (2, 6), generator=generator) if shift else torch.zeros(2, 6, dtype=int)
    expected = torch.zeros_like(images)
    for i in range(6):
        for y in range(5):
            for x in range(4):
                row, column = y + int(offsets[0, i]) - shift, x + int(offsets[1, i]) - shift
                if 0 <= row < 5 and 0 <= column < 4:
                    expected[i, :, y, x] = images[i, :, row, 3 - column if mirrored[i] else column]
    assert torch.equal(changed(images, Augment(shift=shift, flip=flip)), expected)
    assert not flip or 0 < sum(mirrored) < 6


@pytest.mark.parametrize("side", [1, 2, 3, 50])
def test_holes_equal_a_slow_loop(side: int) -> None:
    images = levels(40)
    generator = torch.Generator().manual_seed(2)
    rows, columns = torch.randint(5, (40,), generator=generator), torch.randint(4, (40,), generator=generator)
    expected = images.clone()
    for i in range(40):
        top, left = int(rows[i]) - side // 2, int(columns[i]) - side // 2
        expected[i, :, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = MEAN.view(2, 1, 1)
    assert torch.equal(changed(images, Augment(cutout=side)), expected)


def test_the_policy_is_torchvisions_image_by_image() -> None:
    images = levels(20, 3, 8, 8)
    seeds = torch.randint(2**62, (20,), generator=torch.Generator().manual_seed(2)).tolist()
    expected = []
    for image, seed in zip(images, seeds, strict=True):
        torch.manual_seed(seed)
        expected.append(AutoAugment(AutoAugmentPolicy.CIFAR10)(image))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = changed(images, Augment(autoaugment=True))
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(torch.get_rng_state(), before)
    assert found.dtype == torch.uint8
    assert not torch.equal(found, images)


def test_an_image_changes_alike_in_any_share_of_its_batch() -> None:
    images, mean = levels(9, 3, 8, 8), torch.tensor([1, 2, 3], dtype=torch.uint8)
    chosen = Augment(shift=2, flip=True, autoaugment=True, cutout=3)
    draws = draw(chosen, 9, (8, 8), torch.Generator().manual_seed(0))
    whole = augment(images, chosen, draws, mean)
    shares = (slice(0, 4), slice(4, 4), slice(4, 9))
    parts = [augment(images[share], chosen, draws.of(share), mean) for share in shares]
    assert torch.equal(torch.cat(parts), whole)


def test_wrong_augmentation_is_refused() -> None:
    with pytest.raises(ValidationError, match="cutout"):
        Augment(cutout=-1)
    recipe = Recipe.model_validate({
        "name": "digits", "data": "digits", "model": "digits-net", "augment": {"autoaugment": True},
        "stages": [{"epochs": 1, "learning_rate": 0.1, "bits": 2}],
    })  # fmt: skip
    with pytest.raises(InputError, match=r"autoaugment.*256 levels; those of 'digits' have 17"):
        Trainer(recipe, "model.pt")


def test_a_stage_may_have_its_own_augmentation() -> None:
    stages = [{"epochs": 1, "learning_rate": 0.1, "bits": 2, "augment": own} for own in (None, {"cutout": 3}, {})]
    recipe = Recipe.model_validate(
        {"name": "digits", "data": "digits", "model": "digits-net", "augment": {"shift": 1}, "stages": stages}
    )
    assert [recipe.augmentation(stage) for stage in recipe.stages] == [Augment(shift=1), Augment(cutout=3), Augment()]
    seen = [next(_batches(recipe, number)) for number in range(3)]
    assert not torch.equal(seen[0], seen[2])
    holes = seen[1] != seen[2]
    assert holes.any()
    assert (seen[1][holes] == 5 / 16).all()  # the mean, 0.305 in steps of 1/16
    changed_stage = recipe.stages[1].model_copy(update={"augment": Augment(autoaugment=True)})
    wrong = Recipe.model_validate({**recipe.model_dump(), "stages": [recipe.stages[0], changed_stage.model_dump()]})
    with pytest.raises(InputError, match="augments by autoaugment"):
        Trainer(wrong, "model.pt")


def _batches(recipe: Recipe, number: int) -> Iterator[Tensor]:
    """Images of a stage's batches, all drawn from one seed."""
    for (images, _), _, _ in Trainer(recipe, "model.pt")._batches(number, 0, torch.Generator().manual_seed(0)):
        yield images
