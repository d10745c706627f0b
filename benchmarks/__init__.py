"""Where the figures of docs/performance.md come from; each module is run as `python -m benchmarks.<name>`.

Every benchmark starts servers of its own in a folder of its own, synced to disk, prints its ratio to a limit measured
in the same run, and takes everything away at its end. `python -m benchmarks` runs them all.
"""
