"""Main: the stages in order."""

if __name__ != "podium":
    print(1)
