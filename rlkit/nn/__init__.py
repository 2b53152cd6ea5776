"""Networks: multilayer perceptrons, and what makes their updates fast."""
