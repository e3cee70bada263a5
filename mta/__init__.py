"""An outbound mail server that speaks PowerMTA's configuration language.

The way of one message: `ingress` takes it, `spool` makes it durable, `queue` decides when and how it
leaves, `delivery` sends it, `events` reports it. `service/worker.py` joins them.
"""

__version__ = "0.1.0"
