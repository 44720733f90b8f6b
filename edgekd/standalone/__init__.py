"""The stage `quantize` alone, on any float ONNX file: what `edgekd quantize` does. Neither torch nor onnxsim."""
