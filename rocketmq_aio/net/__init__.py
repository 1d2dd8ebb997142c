"""Floor 2: commands on one side, sockets on the other."""
