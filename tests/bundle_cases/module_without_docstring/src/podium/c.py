"""
Heading on the second line.
"""
