"""A person's own labelled pictures become a personal bundle.

In: a folder of labels, a bundle of the mini recipe. Out: the same bundle with an adapter that knows
the labels, and how often it is right before and after.
"""
