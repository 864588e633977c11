"""Processes that train one model together: ranks, which a launcher of MPI has started.

seam.py      what a run asks of its peers, and the run that has none
launcher.py  what the variables of launchers say
lifeline.py  who ends, and why: told to all at once
mpi.py       peers over mpi4py
portions.py  who takes which part of a batch

Nothing is loaded here: whoever is alone asks the launcher's variables and no more.
"""
