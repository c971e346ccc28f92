"""Runs NetX files with unmodified lava-dl and Lava: `python stock_runner.py JOBS.json`. Nothing of this project here.

JOBS.json: a list of objects with file (NetX), frames (.npy, int32 [T, *shape] as C, H, W), result (.npz to write),
message_bits, reset (interval and offset, or null), states (whether u, v, sigma and activation are recorded).
A result holds output and s<k>, u<k>, v<k> for process layer k, each [T, *shape]; sigma-delta states are v<k>.
"""

import dataclasses
import importlib
import json
import os
import sys
import traceback

import numpy as np

if sys.version_info >= (3, 11):  # Lava 0.10.0 has unhashable dataclass defaults, which Python 3.11 refuses
    plain = dataclasses.dataclass
    dataclasses.dataclass = lambda cls=None, /, **options: plain(cls, **{"unsafe_hash": True, **options})
    importlib.import_module("lava.magma.compiler.var_model")
    dataclasses.dataclass = plain

import lava.lib.dl.netx.hdf5 as hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc import io
from lava.proc.sdn.process import Delta, Sigma, SigmaDelta


def reversed_axes(array):
    """[T, C, H, W] to Lava's [W, H, C, T], and back."""
    return np.ascontiguousarray(array.transpose(range(array.ndim)[::-1]))


def attach_input(network, frames):
    """Feed the frames where the network takes its data; binary and graded spikes, biases, or activations."""
    block = network.in_layer
    if not isinstance(block, hdf5.Input):
        if len(network.inp.shape) == 1:  # a flatten after an input without neurons is left to whoever feeds the data
            frames = frames.reshape(len(frames), -1)
        source = io.source.RingBuffer(data=reversed_axes(frames))
        source.s_out.connect(network.inp)
    elif isinstance(block.neuron, Delta):
        source = io.source.RingBuffer(data=reversed_axes(frames))
        source.s_out.connect(block.neuron.a_in)
    else:  # the same in every step
        block.neuron.bias_mant.init = reversed_axes(frames[:1])[..., 0]


def states_of(neuron):
    """The state variables of a neuron process by the letter of their series."""
    if isinstance(neuron, Delta):
        return {"v": neuron.act}
    if isinstance(neuron, (SigmaDelta, Sigma)):
        return {"v": neuron.sigma}
    return {"u": neuron.u, "v": neuron.v}


def run(job):
    """Run one job and write its result."""
    frames = np.load(job["frames"])
    steps = len(frames)
    interval, offset = job["reset"] or (None, 0)
    network = hdf5.Network(
        net_config=job["file"],
        input_message_bits=job["message_bits"],
        reset_interval=interval,
        reset_offset=offset,
    )
    attach_input(network, frames)
    sinks = {"output": io.sink.RingBuffer(shape=network.out.shape, buffer=steps)}
    network.out.connect(sinks["output"].a_in)
    for index, layer in enumerate(network.layers):
        sinks[f"s{index}"] = io.sink.RingBuffer(shape=layer.out.shape, buffer=steps)
        layer.out.connect(sinks[f"s{index}"].a_in)
    # without a tag Lava takes the floating-point models
    config = Loihi2SimCfg(select_tag="fixed_pt")
    series = {}
    for _ in range(steps if job["states"] else 1):
        network.run(condition=RunSteps(1 if job["states"] else steps), run_cfg=config)
        for index, layer in enumerate(network.layers if job["states"] else []):
            for letter, variable in states_of(layer.neuron).items():
                value = np.asarray(variable.get()).reshape(layer.shape)
                series.setdefault(f"{letter}{index}", []).append(value.transpose())
    result = {name: np.stack(values) for name, values in series.items()}
    for name, sink in sinks.items():
        result[name] = reversed_axes(sink.data.get())
    network.stop()
    np.savez(job["result"], **{name: value.astype(np.int64) for name, value in result.items()})


def main(path):
    with open(path, encoding="utf-8") as file:
        jobs = json.load(file)
    try:
        for job in jobs:
            run(job)
            print("done", job["result"], flush=True)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # Lava's threads would keep the interpreter from ending
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
