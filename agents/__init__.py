"""Agents: one file per method family, each with its config, act, observe and update."""

if __name__ == "agents":  # found from the checkout's root: become rlkit.agents, so that no class exists twice
    from rlkit import _alias

    _alias.install(__name__)
