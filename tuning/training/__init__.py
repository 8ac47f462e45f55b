"""Training on packed samples: what learns, for how many steps, and what is kept.

In: a vision head, a language model with an adapter, a source of batches. Out: a checkpoint from
which a killed run goes on, and a log. Where pictures and questions come from is not known here.
"""
