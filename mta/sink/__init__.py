"""What stands in for the rest of the world: a small name server, a mock receiver, and the demonstration.

Tests, benchmarks and `make demo` use them; nothing of it runs in a production server.
"""
