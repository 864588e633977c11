"""`doctor`: what this environment has, lacks or has twice, and the command that mends it.

finding.py    one thing that was looked at
commands.py   commands that install, for this interpreter and however this package was installed
packages.py   packages, imported in a process of its own, as a broken one may bring that down
runtimes.py   runtimes, and what makes gradients
host.py       Python, processor, memory, disk
examining.py  all of it

Nothing here imports more than the standard library until it looks: what is looked for may be missing or broken.
"""
