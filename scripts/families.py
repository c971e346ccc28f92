"""Which families of convolutional networks go in: torchvision's and timm's, with random weights and small images.

    uv run python scripts/families.py            # all that the record does not hold yet
    uv run python scripts/families.py --verify   # on one image, those listed in VERIFIED that go in
    uv run python scripts/families.py --page     # docs/networks.md from the record
    uv run python scripts/families.py NAME ...   # these, again

Every network is a process of its own with a limit of time and memory. It is prepared at 4 bits (rectifiers become
ReLU, and the record says so), calibrated and converted. Those that are verified are also written to NetX and read back.
The record is docs/records/families.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing.connection
import re
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "records" / "families.json"
PAGE = ROOT / "docs" / "networks.md"

SIDES = (32, 64, 96, 128, 224)
"""Sizes of the image; the first that the network takes."""
CLASSES = 10
SECONDS, GIBIBYTES = 600, 10

TORCHVISION = (
    "resnet18 resnet34 resnet50 resnext50_32x4d wide_resnet50_2 vgg11_bn vgg16_bn alexnet mobilenet_v2 mnasnet0_5 "
    "squeezenet1_1 googlenet inception_v3 densenet121 shufflenet_v2_x0_5 regnet_x_400mf regnet_y_400mf "
    "mobilenet_v3_small efficientnet_b0 convnext_tiny"
)
SEGMENTATION = ("fcn_resnet50", "lraspp_mobilenet_v3_large", "deeplabv3_resnet50")
TIMM = (
    "mobilenetv1_100 mobilenetv2_035 mnasnet_small spnasnet_100 mobileone_s1 gernet_s vovnet39a resnext50_32x4d "
    "res2net50_14w_8s cspresnet50 cspdarknet53 resnetaa34d resnet32ts resnext26ts fbnetc_100 "
    "mobilenetv4_conv_small_035 cspresnext50 cs3darknet_focus_s darknetaa53 res2next50 efficientnet_es "
    "legacy_xception nf_resnet26 hgnetv2_b0 mobilenet_edgetpu_100 resnet10t repvgg_a0 efficientnet_lite0 darknet17 "
    "dla34 hrnet_w18_small dpn48b densenet121 fasternet_t0 selecsls42 convmixer_768_32 regnetx_002 xception41 "
    "inception_v3 resnetv2_18 shvit_s1 fastvit_t8 densenetblur121d resnetblur18 seresnet18 ecaresnetlight "
    "gcresnet33ts eca_resnext26ts regnetz_b16 sedarknet21 convnext_zepto_rms cspnext_tiny edgenext_xx_small "
    "efficientformer_l1 semnasnet_050 mixnet_s tinynet_e tf_efficientnetv2_b0 efficientnet_b0 ghostnet_050 "
    "hardcorenas_a hgnet_tiny inception_next_atto lcnetv2_small mobilenetv3_small_050 lcnet_035 fbnetv3_b "
    "nf_regnet_b0 nfnet_l0 rdnet_tiny regnety_002 regnetv_040 regnetz_005 repghostnet_050 repvit_m1 resnest14d "
    "resnetrs50 rexnet_100 legacy_seresnet18 skresnet18 starnet_s050 tresnet_m visformer_tiny ese_vovnet19b_slim_dw "
    "vgg11_bn wide_resnet50_2 inception_v4 inception_resnet_v2 nasnetalarge pnasnet5large"
)
"""One small representative of each of timm's families of convolutional networks."""
VERIFIED = (
    "torchvision:resnet18 torchvision:resnet34 torchvision:resnet50 torchvision:resnext50_32x4d torchvision:vgg11_bn "
    "torchvision:wide_resnet50_2 torchvision:vgg16_bn torchvision:alexnet torchvision:mobilenet_v2 "
    "torchvision:mnasnet0_5 torchvision:squeezenet1_1 torchvision:googlenet torchvision:inception_v3 "
    "torchvision:densenet121 torchvision:shufflenet_v2_x0_5 torchvision:regnet_x_400mf torchvision:fcn_resnet50 "
    "own:unet own:yolo_tiny timm:mobilenetv1_100 timm:repvgg_a0 timm:dla34 timm:hrnet_w18_small timm:darknet17 "
    "timm:selecsls42 timm:vovnet39a timm:resnet10t timm:efficientnet_lite0 timm:xception41 timm:regnetx_002 "
    "timm:mobilenetv2_035 timm:gernet_s timm:efficientnet_es timm:resnetv2_18"
)
"""Networks whose settled spikes are compared with the integer network, on one image."""
LARGE = (
    "nasnetalarge pnasnet5large vgg11_bn vgg16_bn alexnet wide_resnet50_2 inception_resnet_v2 inception_v4 tresnet_m "
    "resnetrs50 deeplabv3_resnet50"
)
"""Tried last, for they take long."""


def names() -> list[str]:
    """Every network that is tried, last those that take long."""
    found = ["own:unet", "own:yolo_tiny", *(f"timm:{name}" for name in TIMM.split())]
    found += [f"torchvision:{name}" for name in (*TORCHVISION.split(), *SEGMENTATION)]
    return sorted(found, key=lambda name: name.partition(":")[2] in LARGE.split())


def build(name: str) -> Any:
    """The float network, with random weights."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    source, _, plain = name.partition(":")
    torch.manual_seed(0)
    if source == "timm":
        import timm

        return timm.create_model(plain, num_classes=CLASSES)
    if source == "torchvision":
        import torchvision

        if plain in SEGMENTATION:
            options = {"num_classes": CLASSES, "weights": None, "weights_backbone": None}
            return getattr(torchvision.models.segmentation, plain)(**options)
        return torchvision.models.get_model(plain, num_classes=CLASSES)

    def block(inputs: int, outputs: int, *more: nn.Module) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *(more or (nn.ReLU(inplace=True),)))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (16, 32, 64)
            self.down = nn.ModuleList(block(i, o) for i, o in zip((3, *widths), widths, strict=False))
            self.middle = block(64, 64)
            self.up = nn.ModuleList(block(i, o) for i, o in ((128, 32), (64, 16), (32, 16)))
            self.head = nn.Conv2d(16, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = []
            for layer in self.down:
                kept.append(layer(x))
                x = F.max_pool2d(kept[-1], 2)
            x = self.middle(x)
            for layer, skip in zip(self.up, reversed(kept), strict=True):
                x = layer(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="bilinear")], 1))
            return self.head(x)

    if plain == "unet":
        return UNet()
    assert plain == "yolo_tiny"
    leaky = [nn.LeakyReLU(0.1, inplace=True)]
    widths = (3, 16, 32, 64, 128)
    layers = [block(i, o, *leaky, nn.MaxPool2d(2)) for i, o in itertools.pairwise(widths)]
    return nn.Sequential(*layers, block(128, 256, *leaky), nn.Conv2d(256, 5 * (5 + CLASSES), 1))


def side_of(model: Any) -> int:
    """The smallest image that the network takes."""
    import torch

    error: Exception | None = None
    for side in SIDES:
        try:
            with torch.no_grad():
                model(torch.zeros(2, 3, side, side))
            return side
        except (RuntimeError, ValueError, AssertionError) as failure:
            error = failure
    raise RuntimeError(f"takes no image of {SIDES}: {error}")


def tried(name: str, exact: bool) -> dict[str, Any]:
    """What becomes of a network."""
    import torch

    import fastsnn_deploy as fd
    from fastsnn_deploy.errors import InputError

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start = time.process_time()
    model = build(name).eval()
    side = side_of(model)
    entry: dict[str, Any] = {
        "side": side, "parameters": sum(p.numel() for p in model.parameters()), "exact": None,
    }  # fmt: skip
    images = (torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 255).round() / 255
    output = "out" if name.removeprefix("torchvision:") in SEGMENTATION else None
    try:
        options: Any = {"replace_activations": "relu", "output": output, "weight": "absmax"}
        quantised = fd.prepare(model, 4, 4, input_shape=(3, side, side), **options)
        fd.calibrate(quantised, images)
        network = fd.convert(quantised, neurons="graded", allow_loss=True)
    except InputError as error:
        causes = [str(problem) for problem in error.problems] or [str(error)]
        return {**entry, "state": "refused", "causes": [_short(cause) for cause in causes]}
    replaced = sorted(set(quantised.meta.get("replaced", ())))
    entry |= {"state": "in", "replaced": replaced, "nodes": len(network.nodes)}
    if exact:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.net"
            fd.export(network, file)
            verification = fd.verify(network, images[:1], net=file)
        entry |= {"exact": verification.exact, "compared": verification.total.compared}
    return {**entry, "seconds": round(time.process_time() - start)}


def _short(cause: str) -> str:
    """A cause without the folder of the library."""
    return re.sub(r"\(/[^():]*/([^/():]+:\d+)\)", r"(\1)", cause)


def all_of(waiting: list[str], verify: bool, workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """`tried`, each network in a process of its own within the limits; so many at a time."""
    import timm  # noqa: F401
    from torch import nn

    import fastsnn_deploy as fd

    fd.prepare(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()))  # what this loads is loaded before the processes part
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[str, Any, float]] = {}
    left = iter(waiting)
    while True:
        for name in itertools.islice(left, workers - len(running)):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(name, verify, theirs))
            process.start()
            theirs.close()
            running[mine] = (name, process, time.monotonic() + SECONDS)
        if not running:
            return
        ready = multiprocessing.connection.wait(list(running), timeout=1)
        for pipe, (name, process, deadline) in list(running.items()):
            if pipe in ready:
                yield name, _received(pipe)
            elif time.monotonic() > deadline:
                process.kill()
                yield name, _failed(f"took more than {SECONDS} s")
            else:
                continue
            process.join()
            del running[pipe]


def _child(name: str, verify: bool, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (GIBIBYTES << 30, GIBIBYTES << 30))
    try:
        pipe.send(tried(name, verify))
    except Exception as error:  # whatever the network or this package raises is recorded
        pipe.send(_failed(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]))


def _received(pipe: Any) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = pipe.recv()
    except EOFError:
        return _failed(f"ended without a result, with {GIBIBYTES} GiB at most")
    return entry


def _failed(why: str) -> dict[str, Any]:
    return {"state": "failed", "causes": [why]}


def recorded() -> dict[str, Any]:
    """The record so far, by name."""
    found: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def page(record: dict[str, Any]) -> str:
    """docs/networks.md."""
    inside = {name: entry for name, entry in record.items() if entry["state"] == "in"}
    exact = [entry["exact"] for entry in inside.values() if entry["exact"] is not None]
    families = [name for name in record if name.startswith("timm:")]
    lines = [
        "# Networks that go in",
        "",
        "Made by `scripts/families.py` from [families.json](records/families.json): networks with random weights,",
        f"prepared at 4 bits, calibrated and converted. {len(inside)} of {len(record)} go in; of the {len(families)}",
        f"families of timm, each with one representative, {len(set(families) & set(inside))}. Of the {len(exact)} that",
        f"were also written to NetX, read back and verified on one image, {sum(exact)} are exact: every settled count",
        "is that of the integer network. Where rectifiers became ReLU (`replace_activations`), the network must be",
        "fine-tuned.",
        "",
        "| network | image | rectifiers replaced | parameters | integers verified |",
        "|---|---|---|---|---|",
    ]
    for name, entry in sorted(inside.items()):
        verified = "" if entry["exact"] is None else f"{entry['compared']:,}" if entry["exact"] else "**differ**"
        replaced = ", ".join(entry["replaced"])
        lines.append(f"| {name} | {entry['side']} | {replaced} | {entry['parameters']:,} | {verified} |")
    lines += ["", "Refused, with what stands in the way:", "", "| network | causes |", "|---|---|"]
    for name, entry in sorted(record.items()):
        if name not in inside:
            lines.append(f"| {name} | {'; '.join(cause.replace('|', '/') for cause in entry['causes'][:4])} |")
    if left := [name for name in names() if name not in record]:
        lines += ["", f"Not tried yet: {', '.join(left)}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try the named networks, or all that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--page", action="store_true", help="write the page from the record, try nothing")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--verify", action="store_true", help="verify those that are in, of the ones to be verified")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(recorded()))
        return
    record = recorded()
    if options.verify:
        held = {name for name, entry in record.items() if entry["state"] == "in" and entry["exact"] is None}
        waiting = [name for name in VERIFIED.split() if name in held]
    else:
        waiting = [name for name in names() if name not in record]
    for name, entry in all_of(options.names or waiting, options.verify, options.workers):
        RECORD.write_text(json.dumps({**recorded(), name: entry}, indent=1, sort_keys=True) + "\n")
        print(name, entry["state"], entry.get("exact"), entry.get("causes", [""])[0][:150], flush=True)


if __name__ == "__main__":
    main()
