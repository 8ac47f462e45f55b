"""The mini's vision side: backbone, list of things, classifier, crops, and how each learns.

In: pixel values, scenes with ground truth. Out: image tokens; torch modules that `build_mini`
exports.
"""
