"""Online action detection: what is happening in a stream, told frame by frame."""
