"""`fd.evaluate`: how good the answers of a network are, whatever it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from fastsnn_deploy.analysis.evaluate import evaluate as run
from fastsnn_deploy.analysis.evaluation import Evaluation
from fastsnn_deploy.errors import InputError, known_name
from fastsnn_deploy.formats import as_network
from fastsnn_deploy.formats.base import Network
from fastsnn_deploy.graph.images import images_and_labels

if TYPE_CHECKING:
    from fastsnn_deploy.analysis.integer_evaluation import IntegerEvaluation
    from fastsnn_deploy.tasks.evaluate import TaskEvaluation
    from fastsnn_deploy.tasks.scenes import Scenes

Progress = Callable[[int, int], None]


@overload
def evaluate(
    network: Network | str | Path, images: Scenes, labels: None = None, *, engine: str = "cpu",
    steps: int | None = None, progress: Progress | None = None,
) -> TaskEvaluation: ...  # fmt: skip
@overload
def evaluate(
    network: Network | str | Path, images: Any, labels: Any = None, *, mode: Literal["integer"], engine: str = "cpu",
    progress: Progress | None = None,
) -> IntegerEvaluation: ...  # fmt: skip
@overload
def evaluate(
    network: Network | str | Path, images: Any, labels: Any = None, *, mode: Literal["time"] = "time",
    engine: str = "cpu", steps: int | None = None, progress: Progress | None = None,
) -> Evaluation: ...  # fmt: skip
def evaluate(
    network: Network | str | Path,
    images: Any,
    labels: Any = None,
    *,
    mode: Literal["time", "integer"] = "time",
    engine: str = "cpu",
    steps: int | None = None,
    progress: Progress | None = None,
) -> Evaluation | IntegerEvaluation | TaskEvaluation:
    """Classify images and count what the network does, in bounded memory.

    Of images with boxes or masks: the figures of the integer network, and of the SNN after some steps and settled.

    Args:
        network: What `convert` or `read` gives, or an exported file of any target.
        images: Raw or Encoded; or what `load_data` gives, with its labels, boxes or masks.
        labels: int [N]; None leaves accuracy out.
        mode: "time" runs the spikes; "integer" computes only what they settle to, the same answers several times as
            fast.
        engine: "cpu", "gpu", or "reference".
        steps: Exactly so many steps for each image; default: until it has settled.
        progress: Called with (images done, images in all).

    Returns:
        Accuracy after each step, settle steps, spikes and synaptic operations.

    Raises:
        InputError: the network is no classifier, or images or labels do not fit.
    """
    known_name("mode", mode, ("time", "integer"))
    if mode == "integer" and steps is not None:
        raise InputError("the integer network has no steps. Leave out steps, or evaluate in time")
    found = as_network(network)
    if hasattr(images, "answers"):  # Scenes, whose module imports PyTorch
        from fastsnn_deploy.tasks.evaluate import evaluate_task
        from fastsnn_deploy.tasks.network import task_of

        if mode == "integer":
            raise InputError("boxes and masks are compared for all forms at once. Leave out mode")
        return evaluate_task(found, task_of(found), images, engine=engine, steps=steps, progress=progress)
    levels, known = images_and_labels(found, images)
    if mode == "integer":
        from fastsnn_deploy.analysis.integer_evaluation import evaluate_integer

        return evaluate_integer(found, levels, known if labels is None else labels, engine=engine, progress=progress)
    return run(found, levels, known if labels is None else labels, engine=engine, steps=steps, progress=progress)
