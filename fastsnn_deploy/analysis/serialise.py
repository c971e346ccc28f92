"""Evaluations as bytes: NumPy arrays of numbers, never pickled objects, since other processes send them."""

from __future__ import annotations

import io

import numpy as np

from fastsnn_deploy.analysis.evaluation import Evaluation, TopK, nothing
from fastsnn_deploy.analysis.structure import Network
from fastsnn_deploy.simulators import Activity

UNTIL_SETTLED = -1
"""In place of a fixed number of steps."""


def pack(evaluation: Evaluation) -> bytes:
    """All numbers of an evaluation, without its network, as .npz."""
    steps = UNTIL_SETTLED if evaluation.steps is None else evaluation.steps
    arrays = {"head": np.array([evaluation.images, steps], dtype=np.int64), "settled": evaluation.settled}
    for index, entry in enumerate(evaluation.topk):
        arrays[f"topk.{index}"] = np.array([entry.k, entry.correct, *entry.curve], dtype=np.int64)
        arrays[f"first.{index}"] = entry.first
    for index, activity in enumerate(evaluation.activity.values()):
        numbers = [activity.positive, activity.negative, activity.most_in_step, activity.largest]
        arrays[f"numbers.{index}"] = np.array(numbers, dtype=np.int64)
        arrays[f"spikes.{index}"] = activity.spikes
        arrays[f"payload.{index}"] = activity.payload
        arrays[f"per_step.{index}"] = activity.per_step
        arrays[f"by_image.{index}"] = activity.by_image
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(network: Network, packed: bytes) -> Evaluation:
    """The evaluation that `pack` was given, which must have been of the same network."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as file:
        arrays = dict(file)
    images, steps = (int(value) for value in arrays["head"])
    topk = [arrays[f"topk.{index}"] for index in range(sum(name.startswith("topk.") for name in arrays))]
    activity = {}
    for index, name in enumerate(nothing(network).activity):
        positive, negative, most, largest = (int(value) for value in arrays[f"numbers.{index}"])
        activity[name] = Activity(
            spikes=arrays[f"spikes.{index}"],
            payload=arrays[f"payload.{index}"],
            positive=positive,
            negative=negative,
            per_step=arrays[f"per_step.{index}"],
            most_in_step=most,
            largest=largest,
            by_image=arrays[f"by_image.{index}"],
        )
    return Evaluation(
        network=network,
        images=images,
        steps=None if steps == UNTIL_SETTLED else steps,
        settled=arrays["settled"],
        topk=tuple(
            TopK(int(values[0]), int(values[1]), values[2:], arrays[f"first.{at}"]) for at, values in enumerate(topk)
        ),
        activity=activity,
    )
