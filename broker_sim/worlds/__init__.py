"""Worlds for clients and clusters to live in: real sockets, in-memory connections, virtual time.

`environments.py` makes them, `runner.py` runs a program in virtual time, the other files are their parts. Nothing here
knows RocketMQ.
"""
