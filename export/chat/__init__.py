"""How a model is talked to: from chat templates to chat formats.

In: a tokenizer of transformers with its template. Out: turns as strings, checked against whole
prompts of the reference. Weights are not known here.
"""
