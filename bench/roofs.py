"""How good the estimates of ``measuring.roofline`` are: measured on this CPU, against its own measured roofs.

    python -m bench.roofs conv-cut-mini conv-cut-edge conv-cut --threads 1 2

Roofs are a matrix product and a copy; what each kind of layer reaches of them is measured on ``bench.probe``, which
is none of the networks that the estimates are then held against, as a whole and layer by layer. Everything is
measured in turns, see ``bench.estimates``. With one thread a network is timed by that thread's own clock, which
other processes do not touch.

``roofs.json`` keeps a part for each network, precision and number of threads, ``roofs.md`` shows all of them, and
``convcut_trt.measuring.roofline.ERRORS`` has to hold what they say. The report holds benches of the same processor
against the roofs of all its cores.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import onnx

from bench import roofs_page
from bench.about import about, keep
from bench.estimates import measure
from bench.peers import cores
from convcut_trt import arguments
from convcut_trt.errors import InputError
from convcut_trt.fields import write_file
from convcut_trt.guard import guarded
from convcut_trt.home import find_model, zoo_names
from convcut_trt.network import read_model

RESULTS = Path(__file__).parent / "results"
NAME = "roofs.json"
DEVICE = "CPU"
PRECISIONS = ("fp32", "fp16", "int8")
_RECIPES = Path(__file__).parents[1] / "export" / "recipes"
_CPU_INFO = Path("/proc/cpuinfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")


def errors(report: Mapping[str, Any]) -> dict[str, float]:
    """Precision -> the largest factor of a whole network in all of ``roofs.json``, rounded up to a hundredth."""
    largest = dict.fromkeys(PRECISIONS, 0.0)
    for part in report["parts"].values():
        precision = part["precision"]
        largest[precision] = max(largest[precision], part["factor"])
    return {
        precision: math.ceil(factor * 100 - 1e-9) / 100
        for precision, factor in largest.items()
        if factor
    }


def processor() -> dict[str, Any]:
    """The class of this CPU: its vector instructions, its last cache, and how many cores this process may use."""
    flags: set[str] = set()
    if _CPU_INFO.is_file():
        flags = set(_CPU_INFO.read_text().replace("\n", " ").split())
    return {
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "last_cache_mb": last_cache_mb(),
        "physical_cores": cores(),
    }


def last_cache_mb() -> float:
    """Last cache in 1e6 bytes.

    Raises:
        InputError: The system does not say.
    """
    sizes = [
        int(path.read_text().strip().removesuffix("K")) for path in _CACHES.glob("index*/size")
    ]
    if not sizes:
        raise InputError("this system does not say how large its caches are: run it on Linux")
    return round(max(sizes) * 1024 / 1e6, 2)


def read_network(name: str, scratch: Path) -> onnx.ModelProto:
    """A zoo model, a file, or the network of a recipe with random weights.

    Raises:
        InputError: None of these.
    """
    if name in zoo_names() or Path(name).exists():
        return read_model(find_model(name))
    if not (
        _RECIPES / f"{name}.toml"
    ).is_file():  # said before torch is loaded, which takes seconds
        raise InputError(f"{name} is no zoo model, no file and no recipe: name one of these")
    from bench.random_network import random_model

    return read_model(random_model(name, scratch))


def _write(name: str, model: onnx.ModelProto, precision: str, threads: int, out: Path) -> None:
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    command = f"python -m bench.roofs {name} --precision {precision} --threads {threads}"
    found = measure(
        model,
        precision,
        threads,
        last_cache_mb(),
        lambda what: print(f"{name}, {words}: {what}", file=sys.stderr),
    )
    origin = about([command])
    origin["machine"].update(processor())
    part = {
        **origin,
        "network": f"{name}, {words}",
        "threads": threads,
        "precision": precision,
        **found,
    }
    path = out / NAME
    whole = keep(path, DEVICE, f"{name}, {precision}, {words}", part)
    write_file(path.with_suffix(".md"), roofs_page.markdown(whole, errors(whole)).encode())


def main(given: Sequence[str] | None = None) -> int:
    """Measures, and writes both files after each network and precision."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.roofs",
        description="Measure this CPU's roofs, and the estimates of measuring.roofline.",
        epilog="example: python -m bench.roofs conv-cut-mini conv-cut-edge conv-cut",
    )
    parser.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="zoo name, .onnx file, or recipe"
    )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="default: all"
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        type=arguments.count,
        default=[1],
        metavar="N",
        help="of onnxruntime and of the roofs; several are measured one after the other (default: 1)",
    )
    parser.add_argument("-o", "--out", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args(given)
    if not options.out.is_dir():
        raise InputError(f"the folder {options.out} does not exist: make it, or choose another")
    for name in options.networks:
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="convcut-"))
            model = read_network(name, Path(scratch))
        for precision, threads in product(options.precision, options.threads):
            _write(Path(name).stem, model, precision, threads, options.out)
    print((options.out / NAME).with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, as_json=False))
