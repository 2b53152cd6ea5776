"""The `rlkit` command, one file a command."""
