"""Environments: make, wrappers, and the small worlds that come with rlkit."""

if __name__ == "envs":  # found from the checkout's root: become rlkit.envs, so that no class exists twice
    from rlkit import _alias

    _alias.install(__name__)
