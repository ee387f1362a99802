"""The folders of the package's own files, in an installed copy or in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
TINY = PACKAGE / "tiny"


def _beside_package_or_checkout(name: str) -> Path:
    packaged = PACKAGE / name
    return packaged if packaged.is_dir() else PACKAGE.parents[1] / name


def config_dir() -> Path:
    """The folder of the configuration groups, `conf`."""
    return _beside_package_or_checkout("conf")


def experiments_dir() -> Path:
    """The folder of the experiments, `experiments`."""
    return _beside_package_or_checkout("experiments")
