"""What is known of each architecture: which part owns a tensor, and in which order rows stand.

A family of language models is a module `llm_*`, a layout of vision-language checkpoints a module
`vlm_*`; the registries list them. In: config.json. Out: names, shapes, settings. No tensor is read
here.
"""
