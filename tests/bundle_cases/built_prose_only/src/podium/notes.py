"""Notes: a section may be prose

and nothing else.
"""
