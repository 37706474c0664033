"""The tail as a TensorRT plugin: ``libconvcut_plugin.so``, and the ONNX that uses it. See docs/plugin.md."""
