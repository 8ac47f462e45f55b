"""The data pipeline: questions about pictures in, what a perceiver learns to write out."""
