"""Build a bundle from the names of checkpoints.

In: a perceiver and a reasoner. Out: a folder with bundle.json, which the runtime has loaded. No
other room of export knows `edge_et.quantize`.
"""
