"""FP32 ONNX -> typed ONNX: which tensors of a network are FP16, BF16 or INT8."""
