"""What the weights of a language model compute, and the same weights in another form.

In: a GGUF, and perhaps a LoRA for it. Out: logits of some tokens, by numpy alone; a GGUF in which
the LoRA is merged. It takes seconds: nothing here is for answers. Which engine or form is used is
not known here.
"""

from edge_et.weights.comparison import Distance, compare
from edge_et.weights.merging import RECIPE, merge, merged_bytes
from edge_et.weights.reference import Unsupported, reference_logits
from edge_et.weights.tensors import Step, no_step

__all__ = [
    "RECIPE",
    "Distance",
    "Step",
    "Unsupported",
    "compare",
    "merge",
    "merged_bytes",
    "no_step",
    "reference_logits",
]
