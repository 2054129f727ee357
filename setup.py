"Everything is read from settings.ini, which nbdev reads too."

import json
import sys
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
sys.path.insert(0, str(here / "tools"))
from addresses import absolute_links, project_urls, settings  # noqa: E402

cfg = settings()
address = cfg["git_url"], cfg["branch"]
stages = ("", "1 - Planning", "2 - Pre-Alpha", "3 - Alpha", "4 - Beta", "5 - Production/Stable", "6 - Mature")
pythons = [f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)]

FIGURE = "application/vnd.plotly.v1+json"


class PicturesOnly(build_py):
    "In the package, figures of the guides are pictures; their data would make the guides a third larger."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for path in (Path(self.build_lib) / "vidprism" / "guides").rglob("*.ipynb"):
            notebook = json.loads(path.read_text(encoding="utf-8"))
            for cell in notebook["cells"]:
                for output in cell.get("outputs", []):
                    output.get("data", {}).pop(FIGURE, None)
            text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
            path.write_text(text + "\n", encoding="utf-8")


setup(
    cmdclass=dict(build_py=PicturesOnly),
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=absolute_links((here / "README.md").read_text(encoding="utf-8"), *address),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    keywords=cfg["keywords"].split(),
    project_urls=project_urls(*address),
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=f">={cfg['min_python']}",
    packages=[*find_packages(include=["vidprism", "vidprism.*"]), "vidprism.data_samples", "vidprism.guides"],
    package_dir={
        "vidprism": "vidprism",
        "vidprism.data_samples": "data_samples",
        "vidprism.guides": "nbs/guides",
    },  # samples and guides travel inside the wheel
    package_data={"vidprism.data_samples": ["*", "*/*", "*/*/*"], "vidprism.guides": ["*.ipynb", "topics/*.ipynb"]},
    include_package_data=False,
    install_requires=cfg["requirements"].split(),
    extras_require={
        k: cfg[f"{k}_requirements"].split()
        for k in ("dev", "docs", "tensorboard", "torchcodec", "transformers", "umap", "videomae")
    },
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
    classifiers=[
        f"Development Status :: {stages[int(cfg['status'])]}",
        "Framework :: Jupyter",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Natural Language :: English",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *pythons,
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Visualization",
    ],
)
