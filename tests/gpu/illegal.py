"""A kernel that writes where nothing is, and what becomes of its process: python -m tests.gpu.illegal [ENGINES]

Prints ``lost`` for each call that says so, and ``alive`` at the end. With a folder of engines a session is asked,
without one the driver layer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from convcut_trt.engine import load
from convcut_trt.errors import CudaError
from convcut_trt.gpu.driver import Cuda, Stream
from convcut_trt.gpu.kernels import Launch
from convcut_trt.gpu.resources import Resources

# PTX, which every driver compiles.
_BAD_PTX = b"""
.version 6.3
.target sm_75
.address_size 64
.visible .entry bad() {
    .reg .u64 %rd1;
    .reg .u32 %r1;
    mov.u64 %rd1, 16;
    mov.u32 %r1, 7;
    st.global.u32 [%rd1], %r1;
    ret;
}
\0"""


def kill(cuda: Cuda) -> None:
    """Loses the context of this process; the call that finds out is somebody else's."""
    with cuda:
        resources, stream = Resources(cuda), Stream(cuda)
        module = resources.module(_BAD_PTX)
        function = cuda.check(cuda.api.cuModuleGetFunction(module, b"bad"), "cuModuleGetFunction")
        Launch(cuda, function, (1, 1, 1), 32, 0, ())(stream.handle)


def lost(call: Callable[[], object]) -> None:
    """Makes a call that has to say that the context is lost."""
    try:
        call()
    except CudaError as error:
        print("lost" if error.fatal and "restart the process" in str(error) else f"no: {error}")
    else:
        print("it works")


def main() -> int:
    """Loses the context and goes on."""
    cuda = Cuda()
    with ExitStack() as opened:
        if len(sys.argv) > 1:
            engine = opened.enter_context(load(sys.argv[1]))
            size = engine.spec.size
            faces = np.zeros((1, size, size, 3), np.uint8)
            for _ in range(3):
                engine.infer(faces)
            kill(cuda)
            lost(lambda: engine.infer(faces))
            lost(lambda: engine.infer(faces))
            engine.close()
            engine.close()
        else:

            def wait() -> None:
                with cuda:
                    cuda.check(cuda.api.cuCtxSynchronize(), "cuCtxSynchronize")

            kill(cuda)
            lost(wait)
            lost(wait)
    print("alive")
    return 0


if __name__ == "__main__":
    sys.exit(main())
