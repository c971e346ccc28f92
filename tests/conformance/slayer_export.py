"""Networks of lava-dl's slayer, exported by slayer: `python slayer_export.py FOLDER`. Nothing of this project here.

Writes <name>.net, <name>.in.npy (binary input [T, C, H, W] or [T, N]) and <name>.out.npy (slayer's own output).
"""

import os
import sys

import h5py
import numpy as np
import stock_runner  # noqa: F401 - makes Lava importable on Python 3.11 and later
import torch
from lava.lib.dl import slayer

STEPS = 24
MEMORYLESS = {"threshold": 0.5, "current_decay": 1, "voltage_decay": 1}
LEAKY = {"threshold": 0.5, "current_decay": 0.25, "voltage_decay": 0.03}


def convolutional(neuron):
    """Convolutions with rectangular kernels, stride, padding and groups, flatten, dense."""
    block = slayer.block.cuba
    return (2, 9, 7), [
        block.Conv(neuron, 2, 4, (3, 2), stride=(1, 2), padding=(1, 0), weight_scale=3),
        block.Conv(neuron, 4, 6, (3, 3), stride=(2, 1), padding=(1, 1), groups=2, weight_scale=3),
        block.Flatten(),
        block.Dense(neuron, 6 * 5 * 3, 5, weight_scale=3),
    ]


def dense(neuron):
    """Dense layers only: the file has no input layer."""
    block = slayer.block.cuba
    return (12,), [block.Dense(neuron, 12, 9, weight_scale=3), block.Dense(neuron, 9, 4, weight_scale=3)]


NETWORKS = {
    "conv-memoryless": lambda: convolutional(MEMORYLESS),
    "conv-leaky": lambda: convolutional(LEAKY),
    "dense-leaky": lambda: dense(LEAKY),
}


def export(folder, name):
    """Build, run and export one network."""
    shape, blocks = NETWORKS[name]()
    spikes = (torch.rand((1, *shape, STEPS)) < 0.5).float()
    output = spikes
    with torch.no_grad():
        for block in blocks:
            output = block(output)
    with h5py.File(os.path.join(folder, f"{name}.net"), "w") as file:
        for index, block in enumerate(blocks):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    np.save(os.path.join(folder, f"{name}.in.npy"), np.moveaxis(spikes[0].numpy(), -1, 0).astype(np.int64))
    np.save(os.path.join(folder, f"{name}.out.npy"), np.moveaxis(output[0].numpy(), -1, 0).astype(np.int64))


if __name__ == "__main__":
    torch.manual_seed(7)
    for network in NETWORKS:
        export(sys.argv[1], network)
    sys.stdout.flush()
    os._exit(0)
