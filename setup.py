"""pyproject.toml says everything but this: conf/, which lies at the top of a clone, is fusion/conf in a wheel."""

from setuptools import find_namespace_packages, find_packages, setup

setup(
    packages=[
        *find_packages(include=["fusion*", "eval*", "ablations*"]),
        *find_namespace_packages(include=["hydra_plugins*"]),
        "fusion.conf",
    ],
    package_dir={"fusion.conf": "conf"},
)
