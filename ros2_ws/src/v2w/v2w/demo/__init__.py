"""The demo: a simulated robot drives to goals through the real graph of nodes."""
