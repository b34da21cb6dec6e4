"""The ROS package v2w (ament_python). torch and v2w_core come from `pip install`, not from here."""

from glob import glob

from setuptools import find_packages, setup

setup(
    # Not "v2w": a sourced workspace comes first on the path and would hide the pip distribution of
    # that name, and with it every subcommand of `v2w`.
    name="v2w-nodes",
    version="0.1.0",
    packages=find_packages(include=["v2w", "v2w.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/v2w"]),
        ("share/v2w", ["package.xml"]),
        ("share/v2w/config", sorted(glob("config/*"))),
        ("share/v2w/launch", sorted(glob("launch/*.launch.py"))),
    ],
    zip_safe=True,
    description="Lifecycle nodes that imagine and plan with a video-diffusion world model",
    license="Apache-2.0",
    extras_require={"test": ["pytest"]},
    entry_points={
        "console_scripts": [
            "world_model_node = v2w.nodes.world_model_node:main",
            "planner_node = v2w.nodes.planner_node:main",
            "simulator_node = v2w.nodes.simulator_node:main",
            "watchdog_node = v2w.nodes.watchdog_node:main",
        ],
    },
)
