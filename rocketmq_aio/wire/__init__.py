"""The wire format as pure functions: frames, headers, bodies, stored messages, batches, ids.

Nothing here waits, reads a clock or rolls dice, and only `LocalProtocolError` comes out of hostile bytes.
"""
