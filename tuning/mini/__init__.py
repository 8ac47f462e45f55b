"""The recipe of the mini model, and nothing else.

Whoever tunes a model of their own need not open it: `edge_et.tuning.training` and its neighbours
know nothing of what is in here. In: a TOML file of stages. Out: the bundle of the package edge-et-
mini.
"""
