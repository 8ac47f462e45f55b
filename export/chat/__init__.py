"""Chat formats, read from chat templates.

In: a tokenizer of transformers with its template. Out: turns as strings, checked against whole
prompts of the reference. Weights are not known here.
"""
