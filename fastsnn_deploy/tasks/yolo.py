"""YOLOv2 outside the network: anchors, loss, and boxes from the raw map. Source: arXiv 1612.08242, section 2.

The map is float [N, A * (5 + C), H, W], A anchors of x, y, w, h, confidence and C class logits. A box has its centre
at (sigmoid(x) + column, sigmoid(y) + row) cells, and the size anchor * exp(w, h) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_iou

from fastsnn_deploy.errors import InputError
from fastsnn_deploy.tasks.scenes import Boxes

LARGEST_EXPONENT = 4.0
"""Sizes beyond 55 anchors are no cells and no cars; without a bound the exponential of a bad start overflows."""


@dataclass(frozen=True)
class Grid:
    """anchors: (width, height) of each in pixels; stride: pixels of a cell; classes: C."""

    anchors: tuple[tuple[float, float], ...]
    stride: int
    classes: int

    @property
    def channels(self) -> int:
        """A * (5 + C)."""
        return len(self.anchors) * (5 + self.classes)

    def split(self, output: Tensor) -> Tensor:
        """Float [N, A * (5 + C), H, W] -> [N, A, H, W, 5 + C]. Raises InputError for another number of channels."""
        if output.dim() != 4 or output.shape[1] != self.channels:
            raise InputError(
                f"the network's output is {tuple(output.shape)}, but {len(self.anchors)} anchors and {self.classes} "
                f"classes need (N, {self.channels}, H, W)"
            )
        batch, _, height, width = output.shape
        return output.view(batch, len(self.anchors), -1, height, width).permute(0, 1, 3, 4, 2)

    def corners(self, cells: Tensor) -> Tensor:
        """Boxes of a split map, [N, A, H, W, 5 + C] -> [N, A, H, W, 4]: left, top, right, bottom in pixels."""
        height, width = cells.shape[2:4]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (torch.sigmoid(cells[..., :2]) + torch.stack((columns, rows), -1).to(cells)) * self.stride
        anchors = torch.tensor(self.anchors).to(cells).view(-1, 1, 1, 2)
        sizes = anchors * torch.exp(cells[..., 2:4].clamp(max=LARGEST_EXPONENT))
        return torch.cat((centres - sizes / 2, centres + sizes / 2), -1)


def find_anchors(sizes: Tensor, count: int, rounds: int = 100) -> tuple[tuple[float, float], ...]:
    """Anchors by k-means with 1 - IoU as distance, smallest first. sizes: float [n, 2], width and height in pixels.

    Starts from boxes at even ranks of area, so it needs no random numbers. Source: arXiv 1612.08242, section 2.
    """
    if len(sizes) < count or count < 1:
        raise InputError(f"{count} anchors cannot be found in {len(sizes)} boxes")
    ranks = torch.linspace(0, len(sizes) - 1, 2 * count + 1)[1::2].long()
    centres = sizes[sizes.prod(1).argsort()[ranks]].clone()
    for _ in range(rounds):
        nearest = shape_iou(sizes, centres).argmax(1)
        moved = torch.stack([sizes[nearest == i].mean(0) if (nearest == i).any() else centres[i] for i in range(count)])
        if torch.equal(moved, centres):
            break
        centres = moved
    ordered = centres[centres.prod(1).argsort()]
    return tuple((float(width), float(height)) for width, height in ordered)


def shape_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes with one centre: [n, 2] and [m, 2], width and height -> [n, m]."""
    common = torch.minimum(first[:, None], second[None]).prod(2)
    return common / (first.prod(1)[:, None] + second.prod(1)[None] - common)


def yolo_loss(output: Tensor, truth: Sequence[Boxes], grid: Grid, known: float = 0.6) -> Tensor:
    """Loss per box that a person drew, a scalar.

    Every drawn box belongs to the cell of its centre and, of the anchors still free there, to the one of the most
    similar shape: that one learns its place, size and class, and as confidence the IoU it reaches. All others learn
    confidence 0, unless their box overlaps a drawn one by more than `known`. Binary cross entropy for x, y and
    confidence (Fast-SNN has it for x and y), squared error for w and h weighted by 2 - area, cross entropy for classes;
    weight 5 for the confidence of boxes, 1 for all else (YOLOv2).
    """
    cells = grid.split(output)
    with torch.no_grad():
        corners = grid.corners(cells)
    target = torch.zeros(cells.shape[:-1], device=output.device)
    weight = torch.ones_like(target)
    places: list[tuple[int, int, int, int]] = []
    wanted: list[list[float]] = []
    kinds: list[int] = []
    for image, boxes in enumerate(truth):
        if len(boxes.corners) == 0:
            continue
        overlap = box_iou(corners[image].reshape(-1, 4), boxes.corners.to(corners)).view(*target.shape[1:], -1)
        weight[image][overlap.amax(-1) > known] = 0.0
        taken: set[tuple[int, ...]] = set()
        for number, (spots, values) in enumerate(_assigned(boxes, grid, cells.shape[2], cells.shape[3])):
            free = next((spot for spot in spots if spot not in taken), None)
            if free is None:
                continue  # more boxes in one cell than anchors
            taken.add(free)
            anchor, row, column = free
            index = (image, anchor, row, column)
            target[index], weight[index] = overlap[anchor, row, column, number], 5.0
            places.append(index)
            width, height = grid.anchors[anchor]
            wanted.append([*values[:2], values[2] / width, values[3] / height, values[4]])
            kinds.append(int(boxes.classes[number]))
    confidence = F.binary_cross_entropy_with_logits(cells[..., 4], target, weight, reduction="sum")
    if not places:
        return confidence
    chosen = cells[tuple(torch.tensor(places, device=output.device).T)]
    goal = torch.tensor(wanted, device=output.device)
    size_weight = goal[:, 4:]
    place = F.binary_cross_entropy_with_logits(chosen[:, :2], goal[:, :2], size_weight.expand(-1, 2), reduction="sum")
    size = ((chosen[:, 2:4] - goal[:, 2:4].log()) ** 2 * size_weight).sum()
    kind = F.cross_entropy(chosen[:, 5:], torch.tensor(kinds, device=output.device), reduction="sum")
    return (confidence + place + size + kind) / len(places)


Assigned = tuple[list[tuple[int, int, int]], tuple[float, float, float, float, float]]


def _assigned(boxes: Boxes, grid: Grid, height: int, width: int) -> list[Assigned]:
    """For each box: (anchor, row, column) by falling similarity, and x, y in the cell, width, height, 2 - area."""
    sizes = boxes.corners[:, 2:] - boxes.corners[:, :2]
    centres = (boxes.corners[:, :2] + boxes.corners[:, 2:]) / 2 / grid.stride
    order = shape_iou(sizes, torch.tensor(grid.anchors)).argsort(1, descending=True).tolist()
    found: list[Assigned] = []
    for (x, y), (w, h), anchors in zip(centres.tolist(), sizes.tolist(), order, strict=True):
        column, row = min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)
        share = (w * h) / (width * height * grid.stride**2)
        values = (min(max(x - column, 0.0), 1.0), min(max(y - row, 0.0), 1.0), w, h, 2.0 - share)
        found.append(([(anchor, row, column) for anchor in anchors], values))
    return found


def decode(output: Tensor, grid: Grid, *, least: float = 0.005, overlap: float = 0.45, most: int = 100) -> list[Boxes]:
    """Boxes of each image, best first, by the usual non-maximum suppression within a class (`torchvision.ops`).

    A box's score is confidence times class probability; a place may answer with several classes. least: scores below
    it are left out; overlap: IoU above which the weaker box goes; most: boxes kept of an image. Boxes end at the
    image's borders.
    """
    cells = grid.split(output.detach().float())
    limit = torch.tensor([cells.shape[3], cells.shape[2]] * 2) * float(grid.stride)
    corners = torch.minimum(grid.corners(cells).clamp(min=0.0), limit).flatten(1, 3)
    scores = (torch.sigmoid(cells[..., 4:5]) * torch.softmax(cells[..., 5:], -1)).flatten(1, 3)
    found = []
    for own_corners, own_scores in zip(corners, scores, strict=True):
        place, kind = (own_scores > least).nonzero(as_tuple=True)
        chosen, strength = own_corners[place], own_scores[place, kind]
        kept = batched_nms(chosen, strength, kind, overlap)[:most]
        found.append(Boxes(chosen[kept], kind[kept], strength[kept]))
    return found
