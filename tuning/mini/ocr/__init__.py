"""Reading print: from pixel values to the characters in a picture, as one ONNX graph."""
