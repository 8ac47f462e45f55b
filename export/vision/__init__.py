"""Export a tower and its projector as one ONNX graph.

In: their tensors. Out: pixel_values [N,3,H,W] to image_tokens [N,S,D], compared with torch.
Language models are not known here.
"""
