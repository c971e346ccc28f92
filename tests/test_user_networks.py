"""Networks as users write them go the whole way as they are, or are refused by `prepare`."""

from __future__ import annotations

import warnings

import pytest

from tests import user_networks
from tests.scripts import script

CHECK = script("check_cases")


LARGE = [pytest.mark.slow, pytest.mark.scheduled, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LARGE if name.startswith("torchvision") else []) for name in user_networks.CASES]
)
def test_every_network_is_what_it_must_be(name: str) -> None:
    """Prepared at 8 bits, trained, calibrated, saved, converted, written, read, simulated on both engines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good, what = CHECK.check(user_networks, name)
    assert good, what
