"""Main: the stages in order."""

VALUES = {"twice": lambda value: print(value) or 2 * value}

if __name__ == "__main__":
    print(VALUES["twice"](2))
