"""From the names of checkpoints to a bundle that the runtime has loaded.

In: a perceiver and a reasoner. Out: a folder with bundle.json. The only room of export that knows
`edge_et.quantize`.
"""
