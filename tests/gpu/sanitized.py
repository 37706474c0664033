"""A few launches of every kernel, for compute-sanitizer: python -m tests.gpu.sanitized [--planted]

Exit code 1 where an answer is wrong. With ``--planted`` the tail writes behind its output: memcheck has to see it.
"""

from __future__ import annotations

import sys
from typing import cast

import numpy as np

from convcut_trt.frames import FORMATS
from convcut_trt.gpu.driver import Cuda
from convcut_trt.gpu.resources import Resources
from convcut_trt.gpu.tail import DeviceTail
from convcut_trt.kernels.tail import ATTENTIONS, DTYPES, LAYOUTS
from tests.gpu.on_gpu import GpuPreprocess, GpuTail, fresh
from tests.kernels.host import HostTail, random_map, random_tail
from tests.kernels.test_preprocess_host import random_case
from tests.kernels.test_tail_host import MEASURED, check


def launches(gpu: GpuTail, faces: GpuPreprocess) -> None:
    """Every form of the tail on shapes that leave threads idle, every format of the preprocessing."""
    random = fresh("sanitized")
    for attention in ATTENTIONS:
        for dtype in DTYPES:
            for layout in LAYOUTS:
                for shape, units, classes in (((31, 2, 3), 50, 33), ((257, 8, 8), 0, 9)):
                    tail = random_tail(random, attention, shape, units, classes)
                    map = random_map(random, tail, 2, dtype)
                    check(cast(HostTail, gpu), tail, map, layout, MEASURED)
    for format in FORMATS:
        for size in (3, 48):
            case = random_case(random, format, 200, (size,))
            np.testing.assert_array_equal(faces(case), case.twin())


def planted(gpu: GpuTail, resources: Resources) -> None:
    """64 faces into room for one."""
    random = fresh("planted")
    tail = random_tail(random, "none", (8, 2, 2))
    map = random_map(random, tail, 64, "float32")
    launch = DeviceTail(gpu.cuda, tail, gpu.kernels, resources).launch(
        len(map),
        map_at=gpu.upload(resources, map),
        logits_at=resources.device(4 * tail.classes),
        probabilities_at=resources.device(4 * tail.classes * len(map)),
    )
    launch(gpu.stream.handle)
    gpu.cuda.synchronize(gpu.stream.handle)


def main() -> int:
    """Runs them."""
    with Cuda() as cuda:
        resources = Resources(cuda)
        gpu = GpuTail(cuda, resources)
        if sys.argv[1:] == ["--planted"]:
            planted(gpu, resources)
        else:
            launches(gpu, GpuPreprocess(cuda, resources))
        resources.close()
    print("all launches done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
