"""Other programs that answer the same questions about the same picture, each its own best way.

A rival is a module with ``open_subject(bundle, job)``, which returns a
`edge_et.benchmarks.subject.Subject`; it runs in a worker process of its own. It is listed in
`edge_et.benchmarks.engines.ENGINES` and, with a name for the command line, in
`edge_et.benchmarks.latency.BASELINES`. What it cannot do it says by a `BenchError`, whose message
becomes the reason why it is absent.
"""
