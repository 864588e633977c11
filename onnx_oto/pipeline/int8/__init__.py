"""The compact model in 8 bits: made, judged against the float one, and what is told of it."""
