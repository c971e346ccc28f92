"""What `analysis` found about one network, and where it came from: all that a report shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import Hardware
from fastsnn_deploy.analysis.mapping.result import Mapping
from fastsnn_deploy.analysis.mapping.time import Load, Timing, load_of
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.analysis.verify import Verification
from fastsnn_deploy.files import readable_file
from fastsnn_deploy.graph import Encoded
from fastsnn_deploy.reporting.measured import Measured
from fastsnn_deploy.reporting.schema import Source

if TYPE_CHECKING:
    from fastsnn_deploy.formats.base import Network


@dataclass(frozen=True, eq=False)
class Findings:
    """name: of the network. data: of the images. proved_against: what the proof compared with. notes: what is not
    known, and why. None stands for what could not be found."""

    name: str
    network: Network
    hardware: Hardware
    mapping: Mapping | None
    evaluation: Evaluation | None
    timing: Timing | None
    profile: Profile | None
    verification: Verification | None
    proved_against: str
    measured: Measured | None
    data: str
    command: str
    sources: tuple[Source, ...]
    notes: tuple[str, ...]

    @cached_property
    def load(self) -> Load | None:
        """What the images put on each core; of a network that does not fit, on the cores that it would take."""
        if self.timing is not None:
            return self.timing.load
        if self.mapping is None or self.evaluation is None:
            return None
        sent = {name: activity.spikes.reshape(-1) for name, activity in self.evaluation.activity.items()}
        return load_of(self.mapping, self.evaluation, sent)


def file_source(what: str, path: str | Path) -> Source:
    """A file that was read, with its hash."""
    path = readable_file(path, what)
    return Source(what=what, name=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def image_source(data: str, emitted: Encoded) -> Source:
    """The images as they entered the network, with the hash of their integers: int64, little-endian, in C order."""
    values = np.ascontiguousarray(emitted, dtype="<i8")
    name = f"{data or 'images'}, {'x'.join(map(str, values.shape))}"
    return Source(what="images", name=name, sha256=hashlib.sha256(values.tobytes()).hexdigest())
