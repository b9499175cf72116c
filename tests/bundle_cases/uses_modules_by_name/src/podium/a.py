"""A: the first."""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import runpy
import sys
from importlib import import_module
from importlib.resources import files as list_files
from sys import modules


def fine() -> object:
    """Asks for libraries, which are the same in the script."""
    found = importlib.util.find_spec("tensorflow"), importlib.metadata.version("keras")
    return found, sys.argv, sys.version_info


def early() -> object:
    """Asks for modules, which the script lacks."""
    first = importlib.import_module("podium.b"), import_module("podium.b")
    second = sys.modules["podium.a"], modules.get("podium.a")
    third = importlib.reload(fine)
    fourth = list_files("podium"), importlib.resources.files("podium")
    fifth = pkgutil.get_data("podium", "a.csv")
    sixth = runpy.run_module("podium.a")
    return first, second, third, fourth, fifth, sixth
