"""Main: the stages in order."""

if __name__ == "__main__":
    print(1)

X = 1
