"""A load generator for any MQTT broker, on the core: the engine of `iotd bench`.

`workloads` says what can be sent, `runs` runs it, `results` and `comparing` say what it has shown.
`packets`, `sockets` and `machine` serve measurements of other shapes.
"""

__all__: list[str] = []
