"""`edgekd quantize` and `edgekd bench`, on any ONNX file and without a recipe. Neither torch nor onnxsim."""
