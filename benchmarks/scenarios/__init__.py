"""What a broker must bear: one module a scenario, run by `python -m benchmarks.memory`."""
