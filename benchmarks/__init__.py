"""Benchmarks that run against any MQTT 3.1.1 broker; see `benchmarks/README.md`.

Everything that talks to a broker needs nothing but Python's standard library, so that a figure
can be checked on any machine. The measurements of the core itself need the project.
"""
