"""Export a tower and its projector as one ONNX graph.

In: their tensors, or a graph that somebody made of them. Out: pixel_values [N,3,H,W] to
image_tokens [N,S,D], compared with torch, or numpy. Language models are not known here.
"""
