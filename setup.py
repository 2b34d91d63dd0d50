"""What pyproject.toml cannot say: the extensions, where the build backend wants any."""

import iotd_build
from setuptools import setup

setup(ext_modules=iotd_build.core_extensions(), options=iotd_build.build_options())
