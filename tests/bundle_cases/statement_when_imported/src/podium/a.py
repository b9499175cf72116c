"""A: the first."""

TABLE = {}
TABLE["x"] = 1
for one in TABLE:
    pass
print(TABLE)
TABLE.x, Y = 1, 2
