"""What pyproject.toml cannot say: the extensions, where the build backend wants any."""

from setuptools import setup

import iotd_build

setup(ext_modules=iotd_build.extensions(), options=iotd_build.build_options())
