"""Export of trained networks to other runtimes, each checked against the network."""
