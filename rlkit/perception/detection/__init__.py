"""Online action detection: what happens in a stream, told frame by frame."""
