"""Learning with features: linear values of encoded observations, by the engine of `rlkit.tabular`."""
