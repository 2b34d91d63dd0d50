"""`python -m adapters.asyncio_server`: the program, on asyncio."""

from iotd.cli import main

if __name__ == "__main__":
    raise SystemExit(main(runtime="asyncio"))
