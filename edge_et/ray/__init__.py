"""Datasets of Ray Data, answered by actors that load a bundle once each.

In: a dataset whose rows have a picture and a question. Out: the dataset with the fields of an
answer. Which machine and which actor answers a row, and when, Ray decides: it is not known here.
The only door to Ray, which the extra ``ray`` brings.
"""

from edge_et.native_libraries import silence_ray
from edge_et.ray.answerer import Answerer
from edge_et.ray.dataset import answer_dataset

__all__ = ["Answerer", "answer_dataset"]

# A program may give `Answerer` to Ray itself, and then nothing else of ours runs before Ray does.
silence_ray()
