"""The normal form: constants folded and spelled one way, branches and sequences resolved, copies for strangers."""
