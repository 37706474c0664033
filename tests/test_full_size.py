"""The paper's network at full size: 52 M parameters, built for an RTX GPU within two minutes and 4 GB."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from convcut_trt.datasets.ferplus import CLASSES

pytestmark = pytest.mark.slow

SECONDS, BYTES = 120, 4e9


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all below it, shared pages counted once (PSS)."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended meanwhile
            continue
    total, level = 0, [root]
    while level:
        for process in level:
            try:
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        level = [child for child, parent in parents.items() if parent in level]
    return total


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conv-cut with random weights; layer scales as a trained network has them, or blocks would do nothing."""
    torch = pytest.importorskip("torch")
    from export import checkpoint, recipe
    from export.to_onnx import export

    plan = recipe.read("conv-cut")
    torch.manual_seed(0)
    network = plan.build(8)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.2)
    folder = tmp_path_factory.mktemp("full")
    note = {
        "schema": checkpoint.SCHEMA,
        "recipe": plan.model_dump(mode="json"),
        "classes": list(CLASSES),
        "temperature": 1.0,
        "progress": {"best_epoch": 0, "best_accuracy": 0.0},
    }
    checkpoint.write(folder / "model.safetensors", network.state_dict(), note)
    export(folder / "model.safetensors", folder)
    return folder / "conv-cut.onnx"


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc"
)
def test_the_full_network_builds_within_its_limits(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    command = [sys.executable, "-m", "convcut_trt"]
    options = ["--precision", "fp16", "--target", "rtx4060ti", "--gate-pictures", "16", "--json"]
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, "build", model, *options, "-o", tmp_path], stdout=subprocess.PIPE, env=os.environ
    )
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], tree_memory(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    report = json.loads(process.communicate()[0])
    watcher.join()
    seconds = time.monotonic() - start
    print(f"\nconv-cut: {seconds:.0f} s, {peak[0] / 1e9:.2f} GB, {report['operations']} operations")
    assert report["published"]
    assert report["precision"]["computed"]["fp16"] > 0.95
    assert seconds < SECONDS
    assert peak[0] < BYTES
