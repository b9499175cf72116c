"""Main: the stages in order."""

if __name__ == "__main__":
    import sys

    print(sys.argv)
