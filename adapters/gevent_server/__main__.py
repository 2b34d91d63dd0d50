"""`python -m adapters.gevent_server`: the program, on gevent."""

from iotd.cli import main

if __name__ == "__main__":
    raise SystemExit(main(runtime="gevent"))
