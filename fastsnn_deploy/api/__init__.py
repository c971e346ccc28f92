"""The door: what `import fastsnn_deploy as fd` offers. Each function is thin over the stage that does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from fastsnn_deploy.errors import InputError, known_name, whole_number, wrong_type
from fastsnn_deploy.graph import SpikingGraph
from fastsnn_deploy.graph.images import images_and_labels

if TYPE_CHECKING:
    from torch import fx, nn

    from fastsnn_deploy.analysis.mapping.result import Mapping as Mapped
    from fastsnn_deploy.analysis.result import Profile
    from fastsnn_deploy.analysis.verify import Verification
    from fastsnn_deploy.formats.base import Network
    from fastsnn_deploy.formats.export import Exported
    from fastsnn_deploy.graph.run import Run
    from fastsnn_deploy.quantisation import Checkpoint
    from fastsnn_deploy.tasks import Scenes
    from fastsnn_deploy.training.history import History
    from fastsnn_deploy.training.images import Images

Progress = Callable[[int, int], None]


def prepare(
    model: nn.Module,
    bits: int = 2,
    weight_bits: int = 4,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    input_shape: Sequence[int] | None = None,
    **options: Any,
) -> fx.GraphModule:
    """The quantised model of a float network: same structure and weights, every activation quantised.

    Train it as any other module (`fit`, or your own loop), or set its steps from images alone (`calibrate`).

    Args:
        model: A float network; it stays as it is.
        bits: Bits of activations, 1 to 8.
        weight_bits: Bits of weights, 2 to 8; the first and the last layer have 8 unless `first_bits`, `last_bits` say
            otherwise.
        mean: What the network's images were normalised with, per channel. The quantised model takes raw images.
        std: Likewise.
        input_shape: (C, H, W) or (N,) of one image, if it is known already.
        **options: `preprocessing`: a record of mean, std, step and levels in their place, and of what is done to
            pictures before; `first_bits`, `last_bits`, `input_step`, `input_levels`, `activation`, `weight`, `levels`,
            `bits_by_layer`, `weight_bits_by_layer`, `output_bits`, `output_signed`, `output`, `replace_activations`:
            see `quantisation.prepare`.

    Returns:
        A torch.nn.Module that takes raw images [N, C, H, W], floats in units of the data ([0, 1] for pictures).

    Raises:
        LoweringError: lists everything in the network that has no exact spiking form.
        InputError: an option cannot be used.

    Example:
        >>> import torch
        >>> float_model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(),
        ...                                   torch.nn.Linear(288, 10))
        >>> q = prepare(float_model, bits=2, weight_bits=4, input_shape=(3, 8, 8))
        >>> q(torch.rand(5, 3, 8, 8)).shape
        torch.Size([5, 10])
    """
    from fastsnn_deploy.quantisation import prepare as quantised

    return quantised(model, bits, weight_bits, mean=mean, std=std, input_shape=input_shape, **options)


def calibrate(model: nn.Module, images: Any) -> None:
    """Set the steps of all activations from raw images; a second call sets them anew.

    Args:
        model: What `prepare` made.
        images: A batch or one image, NumPy or torch, channels first, uint8 0..255 or floats in units of the data; or a
            data set, of which the first images are taken.

    Raises:
        InputError: the images do not fit the network, or seem normalised.
    """
    from fastsnn_deploy.quantisation import calibrate as set_steps

    set_steps(model, images)


def fit(model: nn.Module, train: Any, test: Any = None, *, epochs: int = 5, **options: Any) -> History:
    """Train a quantised model on any data, with a progress bar.

    Args:
        model: What `prepare` made; its weights change.
        train: A torch Dataset of (image, label), a pair (images, labels), or what `load_data` gives. Images are raw.
        test: Likewise, to report the accuracy after each epoch.
        epochs: Passes over the training images.
        **options: `learning_rate`, `batch_size`, `weight_decay`, `device`, `seed`, ...: see `training.fit`.

    Returns:
        Loss and accuracy of each epoch.

    Raises:
        InputError: data that the model cannot take.
    """
    from fastsnn_deploy.training.fit import fit as train_model

    return train_model(model, train, test, epochs=epochs, **options)  # type: ignore[arg-type]


@overload
def load_data(
    name: str, split: Literal["train", "test"] = "test", root: str | Path = "data", *,
    task: Literal["classification"] = "classification", **options: Any,
) -> Images: ...  # fmt: skip
@overload
def load_data(
    name: str, split: Literal["train", "test"] = "test", root: str | Path = "data", *,
    task: Literal["detection", "segmentation"], **options: Any,
) -> Scenes: ...  # fmt: skip
def load_data(
    name: str, split: Literal["train", "test"] = "test", root: str | Path = "data", *, task: str = "classification",
    **options: Any,
) -> Images | Scenes:  # fmt: skip
    """Labelled images by the name of their data set, or from the user's own files.

    Args:
        name: A name, as digits, cifar10 or SVHN; an .npz file; a folder of class folders, of Hugging Face `datasets` or
            of WebDataset's .tar shards; package.module:function. See docs/data.md. With boxes or masks: a file or
            folder, see docs/detection_segmentation.md.
        split: Training or test images.
        root: Folder that holds the data set.
        task: "classification"; "detection" for images with boxes, "segmentation" for images with masks.
        **options: `preprocessing=` says what is done to each picture, as `fd.preprocessing` gives it; `download=True`
            fetches a torchvision data set. With boxes or masks: `size`, (height, width) of all images, and `classes`,
            the names of a network's.
    """
    if task == "classification":
        from fastsnn_deploy.training.data import load_images

        return load_images(name, split, root, **options)
    from fastsnn_deploy.tasks import TASKS, load_scenes

    return load_scenes(name, split, root, task=known_name("task", task, TASKS), **options)


def convert(
    model: nn.Module | Checkpoint | str | Path,
    input_shape: Sequence[int] | None = None,
    *,
    neurons: str = "unary",
    schedule: Literal["settle", "window"] = "settle",
    steps: int | None = None,
    input: Literal["once", "spread", "constant"] = "once",
    bias: Literal["wave", "spread", "initial"] = "wave",
    start_delay: int = 0,
    allow_loss: bool = False,
) -> SpikingGraph:
    """The integer spiking network of a quantised model: it settles to exactly the integers of that model.

    Args:
        model: A trained or calibrated model of `prepare`, a Checkpoint, or the path of one.
        input_shape: (C, H, W) or (N,) of one image; may be left out if the model has seen images.
        neurons: "unary" (spikes of -1 and 1), "graded" (a whole count in one spike), "unsigned", or "burst4" and such.
        schedule: "settle": neurons fire until nothing changes any more, and every count is right. "window": each layer
            fires only for its window, as Fast-SNN, QFFS and QCFS publish it; counts need not be right.
        steps: With "window", the number of steps; default 2**bits - 1.
        input: "once": one graded spike a pixel; "spread": over the window, as always with schedule "window", unless it
            is "constant": the constant current of the official codes, with the counts that they get.
        bias: "wave": with a layer's first input; "spread": over the window; "initial": in the first step.
        start_delay: Steps that each layer waits from its first input before it fires: fewer spikes are taken back, each
            layer is as much later, and every settled count stays.
        allow_loss: Let trained integers lose bits where potentials of 24 bits cannot hold them; otherwise refused.

    Raises:
        LoweringError: lists every place without an exact form.
        InputError: an option cannot be used, or an image of that shape does not pass through.
    """
    from fastsnn_deploy.analysis.agreement import with_agreement
    from fastsnn_deploy.conversion.convert import converted
    from fastsnn_deploy.passes.start_delay import with_start_delay
    from fastsnn_deploy.passes.window import for_window
    from fastsnn_deploy.quantisation.given import as_checkpoint

    if known_name("schedule", schedule, ("settle", "window")) == "settle" and steps is not None:
        raise InputError(f"schedule='settle', steps={steps}: must be 'settle', or 'window' with a number of steps")
    current = known_name("input", input, ("once", "spread", "constant")) == "constant"
    if current and schedule == "settle":
        what = "input='constant' (--input constant) is for networks that stop after their window"
        raise InputError(f"{what}. Use schedule='window' (--schedule window) with it")
    whole_number("start_delay", start_delay, 0)
    checkpoint = as_checkpoint(model, input_shape)
    graph, calls = converted(
        checkpoint, neurons=neurons, input_schedule="spread" if input == "spread" else "once", bias_schedule=bias,
        allow_loss=allow_loss, steps=steps, current=current,
    )  # fmt: skip
    graph = with_agreement(graph, checkpoint.model, calls)
    if schedule == "window":
        graph = for_window(graph, steps, "constant" if current else "spread")
    return with_start_delay(graph, start_delay)


def simulate(network: SpikingGraph | str | Path, images: Any, engine: str = "cpu", steps: int | None = None) -> Run:
    """Run images through a spiking network and keep every step of every layer.

    Args:
        network: What `convert` or `read` gives, or a file.
        images: Raw, or Encoded by `network.encode`; a batch or one.
        engine: "cpu", "gpu", or "reference" (plain NumPy, the definition).
        steps: Exactly so many steps; default: until nothing changes any more.

    Returns:
        Series of spikes, counts and potentials: `run.counts["layer"]`, `run.logits`, `run.steps`.

    Raises:
        InputError: images that the network cannot take.
    """
    from fastsnn_deploy.formats import as_network
    from fastsnn_deploy.simulators import open_engine
    from fastsnn_deploy.simulators.recorded import recorded_run

    graph = as_network(network)
    if not isinstance(graph, SpikingGraph):
        raise wrong_type("the network", graph, "a SpikingGraph: what fd.convert gives, or fd.read of its file")
    return recorded_run(open_engine(graph, engine), graph.encode(images), steps)


def verify(
    model: nn.Module | Checkpoint | SpikingGraph | str | Path,
    images: Any,
    *,
    net: Network | str | Path | None = None,
    backend: Literal["reference", "cpu", "gpu", "lava"] = "reference",
    input_shape: Sequence[int] | None = None,
    **options: Any,
) -> Verification:
    """Prove that the spiking network computes the quantised model's integers, neuron by neuron.

    Args:
        model: A quantised model, a checkpoint or its path, or a spiking network.
        images: Raw or Encoded.
        net: An exported file to check against it; default: the network itself.
        backend: "cpu" or "gpu": the settled counts of that engine, for many images, and its every step against the
            reference for the first one. "lava" also compares every neuron at every step on Lava with the reference.
        input_shape: As in `convert`.
        **options: `batch`, `models`, `timeout`, `progress`: see `analysis.verify`.

    Returns:
        `exact`, the number of integers compared and differing, and the first difference.

    Raises:
        InputError: the file does not hold this network's layers, or the images do not fit.
        BackendError: Lava is missing or fails.
    """
    from fastsnn_deploy.analysis.verify_stock import verify_network
    from fastsnn_deploy.formats import as_network

    truth = model if isinstance(model, SpikingGraph) else convert(model, input_shape)
    found = truth if net is None else as_network(net)
    file = net if isinstance(net, (str, Path)) else None
    return verify_network(found, truth, images_and_labels(truth, images)[0], net=file, backend=backend, **options)


def profile(
    network: Network | str | Path,
    images: Any,
    hardware: str = "loihi2",
    labels: Any = None,
    *,
    mapping: Mapped | str | Path | None = None,
    engine: str = "cpu",
    steps: int | None = None,
    step_time_us: float | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Count what a network does, put it on cores, and say what time and energy an image takes.

    Args:
        network: What `convert` or `read` gives, or an exported file of any target.
        hardware: Name of a hardware profile, or the path of a .yaml file.
        labels: For accuracy, and the time to the first right answer.
        mapping: What `map_cores` gives for the same hardware, or a file of it; default: as few cores as possible.
        images, engine, steps, progress: As in `evaluate`.
        step_time_us: Microseconds that a time step takes, as measured; default: the least time that the counts allow.

    Returns:
        `energy`, `timing`, `mapping`, `counts`, `statistics`; `unplaced` says why only dynamic energy is known, if so.

    Raises:
        InputError: an unknown profile, or images, labels or a mapping that do not fit.
    """
    from fastsnn_deploy.analysis.profile import profile as run
    from fastsnn_deploy.formats import as_network

    found = as_network(network)
    levels, known = images_and_labels(found, images)
    options: dict[str, Any] = {"engine": engine, "steps": steps, "step_time_us": step_time_us, "progress": progress}
    return run(found, levels, hardware, labels=known if labels is None else labels, mapping=mapping, **options)


def export(
    network: SpikingGraph | nn.Module | Checkpoint | str | Path,
    path: str | Path,
    *,
    target: str = "signed-if",
    format: str = "netx",
    images: Any = None,
) -> Exported:
    """Write a spiking network for a target.

    Args:
        network: A spiking network, or what `convert` takes.
        path: The file to write; it is complete, or not there.
        target: "signed-if", "graded", "stock-lif", "sigma-delta".
        format: "netx" or "nir".
        images: Typical raw images, for targets that are not exact.

    Returns:
        What was written, layer by layer.

    Raises:
        InputError: an unknown target or format, or a file that cannot be written.
        GraphError: the target cannot hold the network.
    """
    from fastsnn_deploy.files import one_command
    from fastsnn_deploy.formats.export import export as write

    with one_command():  # the file of the network is not what is written
        graph = network if isinstance(network, SpikingGraph) else convert(network)
        calibration = None if images is None else graph.encode(images_and_labels(graph, images)[0])
        return write(graph, path, target, format, calibration)


def read(path: str | Path) -> Network:
    """Read a network from any file that this program knows: NetX of ours or stock, NIR.

    Args:
        path: The file.

    Returns:
        A SpikingGraph, or a StockNetwork for files of stock neurons.

    Raises:
        InputError: a missing, damaged or foreign file.
    """
    from fastsnn_deploy.formats import read_network

    return read_network(path)
