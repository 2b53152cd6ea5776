"""Experience: what agents store, and how they get it back."""
