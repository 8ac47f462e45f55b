"""How often a bundle is right on questions whose answers are known, mode by mode.

In: a loaded bundle, exams. Out: results that a killed run goes on with, tables, sheets of failures.
What the exams ask is not known here.
"""
