"""What `agents_speed.py` measures, one file for each kind of work."""
