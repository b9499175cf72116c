"""A: the first."""


def early():
    import wandb.sdk
    import imagehash
