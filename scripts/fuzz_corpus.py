"""The small valid files in tests/corpus that fuzzing starts from, one for each way into the program.

uv run python scripts/fuzz_corpus.py
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import nir
import numpy as np
import onnx
import pyarrow
import pyarrow.parquet
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file

import fastsnn_deploy as fd
from fastsnn_deploy.graph import save as save_graph
from fastsnn_deploy.training.recipe import load_recipe
from fastsnn_deploy.training.trainer import Trainer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.hostile_readers import CORPUS, network  # noqa: E402  tests are no package of the program

PIXELS = np.random.default_rng(1).integers(0, 256, (6, 1, 6, 6)).astype(np.uint8)
RECIPE = """name: small
data: digits
model: digits-net
model_options: {width: 2}
preprocess: resize=none
augment: {shift: 1}
batch_size: 64
stages:
  - {epochs: 1, learning_rate: 0.1}
  - {epochs: 2, learning_rate: 0.05, bits: 2, weight_bits: 4, warmup: 0.5}
"""


def networks() -> None:
    """Float networks, and the quantised one in every form."""
    torch.manual_seed(0)
    model = network().eval()
    image = torch.zeros(2, 1, 6, 6)
    torch.save(model.state_dict(), CORPUS / "weights.pth")
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, CORPUS / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(model, CORPUS / "pickled.pth")
    save_file(model.state_dict(), CORPUS / "weights.safetensors")
    torch.jit.save(torch.jit.trace(model, image), CORPUS / "script.pt")
    without_places(CORPUS / "script.pt")
    torch.export.save(torch.export.export(model, (image,)), CORPUS / "program.pt2")
    without_places(CORPUS / "program.pt2")
    torch.onnx.export(model, (image,), str(CORPUS / "net.onnx"), dynamo=False)
    quantised = fd.prepare(model, input_shape=(1, 6, 6))
    fd.calibrate(quantised, PIXELS)
    fd.save(quantised, CORPUS / "model.pt")
    fd.save(quantised, CORPUS / "packed.pt", packed=True)
    snn = fd.convert(quantised)
    save_graph(snn, CORPUS / "graph.safetensors")
    fd.export(snn, CORPUS / "model.net")
    fd.export(snn, CORPUS / "model.nir", format="nir")
    (CORPUS / "model.nir.loss.json").unlink()
    fd.export(snn, CORPUS / "stock.net", target="stock-lif")
    fd.map_cores(snn, "loihi2").save(CORPUS / "mapping.json")


def without_places(file: Path) -> None:
    """Take the folders of this machine out of the source lines in an archive."""
    with zipfile.ZipFile(file) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries:
            if not name.endswith(".debug_pkl"):
                archive.writestr(name, re.sub(rb'(?<=File \\")[^"]*/', b"", content))


def of_others() -> None:
    """NIR and ONNX of other programs."""
    nodes = {
        "input": nir.Input(np.array([4])), "fc": nir.Affine(np.ones((3, 4), np.float32), np.zeros(3, np.float32)),
        "n": nir.Threshold(np.ones(3, np.float32)), "output": nir.Output(np.array([3])),
    }  # fmt: skip
    nir.write(CORPUS / "foreign.nir", nir.NIRGraph(nodes, [("input", "fc"), ("fc", "n"), ("n", "output")]))
    weight = np.random.default_rng(2).integers(-7, 8, (2, 1, 3, 3)).astype(np.float32)
    held = {"w": weight / 16, "one": np.float32(1 / 16), "zero": np.float32(0), "bits": np.float32(4),
            "s": np.float32(0.1), "head": np.ones((72, 3), np.float32), "pixel": np.float32(1 / 255),
            "eight": np.float32(8)}  # fmt: skip
    shared = {"domain": "qonnx.custom_op.general", "rounding_mode": "ROUND"}
    plain, signed = ({**shared, "narrow": n, "signed": n} for n in (0, 1))
    quant = [
        helper.make_node("Quant", ["x", "pixel", "zero", "eight"], ["x0"], **plain),
        helper.make_node("Quant", ["w", "one", "zero", "bits"], ["wq"], **signed),
        helper.make_node("Quant", ["head", "one", "zero", "eight"], ["hq"], **signed),
        helper.make_node("Conv", ["x0", "wq"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Quant", ["r", "s", "zero", "bits"], ["a"], **plain),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "hq"], ["y"]),
    ]
    write_onnx("quant.onnx", quant, held)
    codes = {"w": weight.astype(np.int8), "ws": np.float32(1 / 16), "xs": np.float32(1 / 255), "as": np.float32(0.1),
             "wz": np.int8(0), "xz": np.uint8(0)}  # fmt: skip
    write_onnx("codes.onnx", [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "as", "xz"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "as", "xz"], ["rd"]),
        helper.make_node("Flatten", ["rd"], ["y"]),
    ], codes)  # fmt: skip


def write_onnx(name: str, nodes: list[onnx.NodeProto], held: dict[str, np.ndarray]) -> None:
    """A graph from one image x [1, 1, 6, 6] to y."""
    values = [numpy_helper.from_array(np.asarray(value), key) for key, value in held.items()]
    source, answer = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 6, 6]),
        helper.make_empty_tensor_value_info("y"),
    )
    graph = helper.make_graph(nodes, "network", [source], [answer], values)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), CORPUS / name)


def settings() -> None:
    """Recipe, profile, task, measured run, and the state of a training."""
    (CORPUS / "recipe.yaml").write_text(RECIPE)
    shutil.copy(ROOT / "hardware_profiles" / "truenorth.yaml", CORPUS / "profile.yaml")
    (CORPUS / "task.yaml").write_text("name: segmentation\nclasses: [sky, road, car]\n")
    (CORPUS / "measured.json").write_text(json.dumps({"measured": {"steps": 3, "syn_ops": 1000.0, "vdd_power": 1.5}}))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(load_recipe(CORPUS / "recipe.yaml"), Path(folder) / "model.pt")
        kept = trainer.resume_file.read_bytes
        lines: list[bytes] = []
        trainer.log = lambda line: lines.append(kept() if trainer.resume_file.exists() else b"")
        trainer.run()
    (CORPUS / "state.resume").write_bytes(lines[-1])


def data() -> None:
    """Labelled images, boxes and masks, in every form."""
    labels = np.arange(6) % 3
    np.savez(CORPUS / "data.npz", images=PIXELS, labels=labels, classes=np.array(["a", "b", "c"]))
    np.savez_compressed(CORPUS / "splits.npz", x_train=PIXELS, y_train=labels, x_test=PIXELS / 255, y_test=labels)
    np.savez(CORPUS / "masks.npz", images=np.zeros((6, 4, 4, 3), np.uint8),
             masks=np.tile(labels[:, None, None], (4, 4)), classes=np.array(["sky", "road", "car"]))  # fmt: skip
    picture = Image.fromarray(np.tile(PIXELS[0, 0], (3, 3)))
    for ending in ("png", "jpg", "gif"):
        picture.save(CORPUS / f"picture.{ending}")
    png = (CORPUS / "picture.png").read_bytes()
    table = pyarrow.table({"image": [{"bytes": png, "path": None}] * 6, "label": labels.tolist()})
    pyarrow.parquet.write_table(table, CORPUS / "data.parquet")
    with pyarrow.OSFile(str(CORPUS / "data.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    with tarfile.open(CORPUS / "data.tar", "w") as archive:
        for number, label in enumerate(labels):
            for ending, content in (("png", png), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number:03}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6], "iscrowd": 0}
    images, kinds = [{"id": 1, "file_name": "a.png"}], [{"id": 1, "name": "cell"}]
    coco = {"images": images, "categories": kinds, "annotations": [box]}
    (CORPUS / "coco.json").write_text(json.dumps(coco))
    (CORPUS / "boxes.csv").write_text("image,class,xmin,ymin,xmax,ymax\na.png,cell,1,2,6,8\na.png,ring,3,3,9,9\n")
    (CORPUS / "data.yaml").write_text("path: .\nnames: {0: cell, 1: ring}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    CORPUS.mkdir(parents=True, exist_ok=True)
    for make in (networks, of_others, settings, data):
        make()
    print(f"{sum(file.stat().st_size for file in CORPUS.iterdir()):,} bytes in {CORPUS}")
