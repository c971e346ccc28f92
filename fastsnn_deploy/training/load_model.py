"""Any network in a file, as a module: `fd.load_model`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from fastsnn_deploy.errors import InputError, wrong_type
from fastsnn_deploy.files import path_of
from fastsnn_deploy.graph.images import image_shape
from fastsnn_deploy.quantisation.sources import Loaded, Request, read_source
from fastsnn_deploy.training.models import build

Named = str | nn.Module | Callable[[], nn.Module]


def load_model(
    path: str | Path,
    model: Named | None = None,
    *,
    key: str | None = None,
    trust_pickle: bool = False,
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """The network in a file of PyTorch, ONNX or this program, in evaluation mode on the CPU.

    Args:
        path: A checkpoint of `save`; a torch.export program (.pt2); TorchScript; ONNX or QONNX; a state_dict, a
            .safetensors file, or a training checkpoint that holds weights; a pickled module. Known by its content.
        model: The network that a file of weights alone belongs to: its name, as `package.module:builder`,
            `file.py:builder`, `torchvision:NAME`, `timm:NAME`, a name of `fastsnn-deploy list models`, with options as
            in `lenet(width=8)`; a function that makes it; or the module, which is filled.
        key: The entry of a training checkpoint whose weights are meant, if it holds several.
        trust_pickle: Run the code of a pickled module. Nothing in a file is executed otherwise.
        input_shape: (C, H, W) or (N,) of one image, for TorchScript that takes no usual size.

    Returns:
        A quantised model if the file is a checkpoint of `save`, else a float network for `prepare`.

    Raises:
        InputError: a missing, damaged or unknown file; weights that do not fit, every one of them; what could run
            code; a missing network, or a missing library.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> torch.save({"model": network.state_dict(), "epoch": 3}, "weights.pth")
        >>> load_model("weights.pth", network)
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=64, out_features=10, bias=True)
        )
    """
    return open_model(path, model, key=key, trust_pickle=trust_pickle, input_shape=input_shape).model


def open_model(
    path: str | Path,
    model: Named | None = None,
    *,
    key: str | None = None,
    trust_pickle: bool = False,
    input_shape: Sequence[int] | None = None,
) -> Loaded:
    """`load_model`, with what the file is and what must be said about it."""
    if key is not None and not isinstance(key, str):
        raise wrong_type("key", key, "the name of an entry of the training checkpoint")
    if not isinstance(trust_pickle, bool):
        raise wrong_type("trust_pickle", trust_pickle, "True or False")
    shape = None if input_shape is None else image_shape(input_shape, lengths=(1, 2, 3))
    maker = None if model is None else lambda: _network(model)
    return read_source(Request(path_of(path, "checkpoint"), maker, key, trust_pickle, shape))


def _network(model: Named) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, str):
        return build(model)
    if not callable(model):
        raise wrong_type("model", model, "the name of a network, a torch.nn.Module, or a function that makes one")
    try:
        made = model()
    except Exception as error:  # whatever the user's own code may set off
        raise InputError(f"model: the function fails ({type(error).__name__}: {error})") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"model: the function returns a {type(made).__name__}, not a torch.nn.Module")
    return made
