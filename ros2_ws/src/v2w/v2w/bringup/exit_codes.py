"""Exit codes of the nodes: 0 after an interrupt, else one of these."""

#: The node could not start; the reason is on stderr.
CANNOT_START = 2
#: The node was shut down through its lifecycle.
SHUT_DOWN = 3
