"""The language of repairs: what may be done to a graph that is being cut, and what is computed in its stead."""
