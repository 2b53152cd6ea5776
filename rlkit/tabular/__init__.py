"""Tables: learners as plain arrays, and the compiled engine that trains them where a model exists. Never torch."""
