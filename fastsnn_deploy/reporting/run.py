"""`report`: the door to reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsnn_deploy.analysis.evaluate import evaluate
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.analysis.hardware import Hardware, load_hardware
from fastsnn_deploy.analysis.kinds import kind_of
from fastsnn_deploy.analysis.mapping.result import Mapping
from fastsnn_deploy.analysis.mapping.run import map_cores
from fastsnn_deploy.analysis.mapping.time import Timing
from fastsnn_deploy.analysis.profile import profile
from fastsnn_deploy.analysis.result import Profile
from fastsnn_deploy.analysis.verify import Verification
from fastsnn_deploy.analysis.verify_stock import verify_network
from fastsnn_deploy.errors import GraphError, InputError, require_progress, whole_number, wrong_type
from fastsnn_deploy.graph import Encoded, SpikingGraph
from fastsnn_deploy.graph.images import images_and_labels, sliceable
from fastsnn_deploy.reporting.findings import Findings, file_source, image_source
from fastsnn_deploy.reporting.measured import read_measured
from fastsnn_deploy.reporting.result import Report

if TYPE_CHECKING:
    from fastsnn_deploy.formats.base import Network

PROOF_IMAGES = 10
"""Images of the proof where no number is given, and at a time: it keeps every step of every neuron."""

Progress = Callable[[int, int], None]


def report(
    network: Network | str | Path,
    images: Any = None,
    labels: Any = None,
    *,
    hardware: Hardware | str | Path = "loihi2",
    mapping: Mapping | None = None,
    model: Any = None,
    proof_images: int | None = None,
    engine: str = "cpu",
    steps: int | None = None,
    measured: str | Path | None = None,
    data: str = "",
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Everything about a network on a chip: will it fit, how fast, how many joules, how accurate, and the proof.

    What it shows is found by `map_cores`, `evaluate`, `profile` and `verify`; what one of them cannot say is a sentence
    in the report.

    Args:
        network: What `convert` or `read` gives, or an exported file of any target.
        images: As in `evaluate`. None: only what needs no images.
        labels: As in `evaluate`.
        hardware: A hardware profile, its name, or the path of a .yaml file.
        mapping: What `map_cores` gave for this network, whose hardware is then taken; default: the fewest cores.
        model: What the network was made from, as `convert` takes it: the proof is then against its integers. Default:
            against those of the network itself, which networks of stock layers do not hold.
        proof_images: How many of the images, from the first on, the proof takes; default 10.
        engine, steps: As in `evaluate`.
        measured: A JSON file of what Intel's profiler measured, to be put beside the estimates.
        data: Name of the images.
        command: How the report is made again, to be printed in it.
        progress: Called with (images done, images in all), those of the proof included.

    Returns:
        The report; `save` writes the folder.

    Raises:
        InputError: what those functions raise for input that cannot be used.

    Example:
        >>> import numpy as np
        >>> import fastsnn_deploy as fd
        >>> network = fd.read("model.net")
        >>> images = np.random.default_rng(0).random((2, *network.input.shape))
        >>> made = fd.report(network, images, proof_images=1)
        >>> made.file.fit.cores, made.file.proof.exact
        (7, True)
        >>> made.save("report")
    """
    from fastsnn_deploy.formats import as_network

    require_progress(progress)
    if mapping is not None and not isinstance(mapping, Mapping):
        raise wrong_type("mapping", mapping, "what fd.map_cores gives")
    proof = whole_number("proof_images", PROOF_IMAGES if proof_images is None else proof_images, 0)
    notes: list[str] = []
    chosen = hardware if isinstance(hardware, Hardware) else load_hardware(hardware)
    values = read_measured(measured) if measured is not None else None
    found = as_network(network)
    if mapping is not None:
        chosen = mapping.hardware
    elif chosen.chip is not None:
        mapping = map_cores(found, chosen)
    else:
        notes.append(f"whether it fits is not known: the profile '{chosen.name}' has no limits of a chip")
    run = _Run(found, chosen, mapping, engine, steps, progress, notes)
    sources = [
        file_source(what, path)
        for what, path in (
            ("network", network), ("quantised model", model), ("hardware profile", hardware), ("measured run", measured)
        )
        if isinstance(path, (str, Path)) and Path(path).is_file()
    ]  # fmt: skip
    if images is None:
        notes.append("no image was run: spikes, steps, time, energy, accuracy and the proof are not known")
    else:
        levels, known = images_and_labels(found, images)
        emitted = kind_of(found).encode(found, sliceable(levels, len(found.input.shape))[:])
        sources.append(image_source(data, emitted))
        run.on(emitted, known if labels is None else labels, model, proof)
    return Report(
        Findings(
            name=_name(network, found),
            network=found,
            hardware=chosen,
            mapping=mapping,
            evaluation=run.evaluation,
            timing=run.timing,
            profile=run.profile,
            verification=run.verification,
            proved_against=run.proved_against,
            measured=values,
            data=data,
            command=command,
            sources=tuple(sources),
            notes=tuple(notes),
        )
    )


def _name(network: Any, found: Network) -> str:
    """What the network is called: by its file, or by what it says of itself."""
    if isinstance(network, (str, Path)):
        return Path(network).name
    return str(next((found.metadata[key] for key in ("name", "recipe", "data") if key in found.metadata), "network"))


class _Run:
    """What images tell; everything stays None that cannot be found, and a note says why."""

    def __init__(
        self, network: Network, hardware: Hardware, mapping: Mapping | None, engine: str, steps: int | None,
        progress: Progress | None, notes: list[str],
    ) -> None:  # fmt: skip
        self.network, self.hardware, self.mapping = network, hardware, mapping
        self.engine, self.steps, self.progress, self.notes = engine, steps, progress, notes
        self.evaluation: Evaluation | None = None
        self.timing: Timing | None = None
        self.profile: Profile | None = None
        self.verification: Verification | None = None
        self.proved_against = ""

    def on(self, emitted: Encoded, labels: Any, model: Any, proof: int) -> None:
        """Count, time, price and prove."""
        proof = min(proof, len(emitted))
        total = len(emitted) + proof
        self._count(emitted, labels, self._part(0, total))
        self._prove(Encoded(emitted[:proof]), model, self._part(len(emitted), total))

    def _part(self, before: int, total: int) -> Progress | None:
        progress = self.progress
        return None if progress is None else lambda done, _: progress(before + done, total)

    def _count(self, emitted: Encoded, labels: Any, progress: Progress | None) -> None:
        options: dict[str, Any] = {"engine": self.engine, "steps": self.steps, "progress": progress}
        if self.hardware.energies is not None:
            found = profile(self.network, emitted, self.hardware, labels=labels, mapping=self.mapping, **options)
            self.profile, self.evaluation, self.timing = found, found.evaluation, found.timing
            if found.unplaced:
                self.notes.append(f"time, static energy and energy of hops are not known: {found.unplaced}")
            return
        self.notes.append(f"energy is not known: none is published for '{self.hardware.name}'")
        shapes = list(kind_of(self.network).outputs(self.network).values())
        if [len(shape) for shape in shapes] != [1]:
            self.notes.append("spikes and time are not known: without energies only classifiers are run")
            return
        self.evaluation = evaluate(self.network, emitted, labels, **options)
        if self.mapping is not None:
            try:
                self.timing = self.mapping.timing(self.evaluation)
            except InputError as error:
                self.notes.append(f"time is not known: {error}")

    def _prove(self, emitted: Encoded, model: Any, progress: Progress | None) -> None:
        if not len(emitted):
            self.notes.append("nothing was proved: no image was given to the proof")
            return
        if model is None and not isinstance(self.network, SpikingGraph):
            self.notes.append(
                "nothing was proved: a network of stock layers is proved against the quantised model it was made from"
            )
            return
        truth = self._truth(model)
        try:
            self.verification = verify_network(self.network, truth, emitted, batch=PROOF_IMAGES, progress=progress)
        except GraphError as error:
            self.notes.append(f"nothing was proved: {error}")
            return
        whose = "the quantised model" if model is not None else "the network"
        self.proved_against = f"Every neuron against the integers of {whose}"

    def _truth(self, model: Any) -> SpikingGraph:
        if model is None:
            assert isinstance(self.network, SpikingGraph)
            return self.network
        from fastsnn_deploy.conversion.convert import convert
        from fastsnn_deploy.quantisation.given import as_checkpoint

        return model if isinstance(model, SpikingGraph) else convert(as_checkpoint(model))
