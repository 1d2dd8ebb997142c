"""`python -m broker_sim` is the command `broker-sim`."""

from __future__ import annotations

from broker_sim.cli import main

if __name__ == "__main__":
    main(prog_name="broker-sim")
