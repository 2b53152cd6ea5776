"""Presets: one YAML file per agent and environment, named `<agent>_<env>.yaml`."""

if __name__ == "configs":  # found from the checkout's root: become rlkit.configs, so that no class exists twice
    from rlkit import _alias

    _alias.install(__name__)
