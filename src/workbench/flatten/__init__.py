"""Flattens a package into one script; build_kernel.py is its command line.

Rooms, in the order of work; each imports only from rooms further up, and from no other library:

refusal         where something cannot be flattened, why, and the way out
source          the modules as read and parsed, and what they import and define
script          the script's lines, and where each of them comes from
kaggle_image    the libraries that Kaggle's images hold
leaks, names, layers, effects, imports    what is refused in the modules, a room for each concern
stamp           the hash of the sources
section         one module in the script
rules           all checks in one list
layout          title, imports and sections, one below the other
"""
