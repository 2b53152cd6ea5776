"""Self-supervised objectives, one family a file, and what learns an encoder by them."""
