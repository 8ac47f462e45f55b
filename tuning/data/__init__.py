"""The data pipeline: questions about pictures become what a perceiver learns to write.

In: visual instruction data, and who describes its pictures. Out: extraction records. Neither
training nor any recipe is known here.
"""
