"""Synthetic bundles: random weights with the dimensions of real models, made on the spot.

Speed does not depend on the values of weights. So a model can be measured before it is there.
"""
