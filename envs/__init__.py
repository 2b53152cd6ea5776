"""Environments: building them, stepping many at once, wrapping, checking and restoring them. Never imports torch.

Nothing is imported here, so that `rlkit.envs.wrapper_names` (read by `--help`) loads without gymnasium.
"""

if __name__ == "envs":  # found from the checkout's root: become rlkit.envs, so that no class exists twice
    from rlkit import _alias

    _alias.install(__name__)
