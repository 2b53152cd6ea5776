"""What an encoder's features tell of a simulator's state: probes of frozen features, and controls."""
