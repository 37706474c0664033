// The kernels of tail.cuh by name: tail_{f32,f16}_{nchw,nhwc}_{none,channel,spatial,batch}.
//
// All take (map, packed parameters, logits, probabilities, shape), run in blocks of kTailThreads, one a face, and
// need TailRoom(...).floats * 4 bytes of dynamic shared memory, at most 48 KB. Costs and floor: see tail.cuh.
// The launch bounds hold the compiler to 64 registers a thread: 4 blocks fit a multiprocessor of any kind.
#include "tail.cuh"

#define TAIL(name, Element, layout, attention)                                                                   \
    extern "C" __global__ void __launch_bounds__(kTailThreads, 4)                                                \
        name(const Element* __restrict__ map, const float* __restrict__ parameters, float* __restrict__ logits,  \
             float* __restrict__ probabilities, TailShape shape) {                                               \
        extern __shared__ float shared[];                                                                        \
        tail<Element, layout, attention>(map, parameters, logits, probabilities, shape, shared);                 \
    }

#ifdef TAIL_NAME  // one kernel alone, compiled in a tenth of the time of all
TAIL(TAIL_NAME, TAIL_ELEMENT, TAIL_LAYOUT, TAIL_ATTENTION)
#else
#define TAIL_ATTENTIONS(name, Element, layout)                      \
    TAIL(name##_none, Element, layout, Attention::none)             \
    TAIL(name##_channel, Element, layout, Attention::channel)       \
    TAIL(name##_spatial, Element, layout, Attention::spatial)       \
    TAIL(name##_batch, Element, layout, Attention::batch)

TAIL_ATTENTIONS(tail_f32_nchw, float, Layout::nchw)
TAIL_ATTENTIONS(tail_f32_nhwc, float, Layout::nhwc)
TAIL_ATTENTIONS(tail_f16_nchw, __half, Layout::nchw)
TAIL_ATTENTIONS(tail_f16_nhwc, __half, Layout::nhwc)
#endif
