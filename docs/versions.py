"""The versions that a site has, for its menu: python docs/versions.py FOLDER URL

The folder has one for each version, X.Y, as ``sphinx -b html`` made it. Writes ``versions.json``,
the latest first, and ``index.html``, which leads to the latest.
"""

import argparse
import json
from pathlib import Path


def versions_in(folder: Path) -> list[str]:
    """Names X.Y of folders, the latest first."""
    found = [p.name for p in folder.iterdir() if p.is_dir() and p.name.replace(".", "").isdigit()]
    return sorted(found, key=lambda name: tuple(map(int, name.split("."))), reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("url", help="where the folder will be")
    options = parser.parse_args()
    versions, url = versions_in(options.folder), options.url.rstrip("/")
    if not versions:
        parser.error(f"{options.folder} has no folder of a version, as 0.1")
    entries = [{"version": name, "url": f"{url}/{name}/"} for name in versions]
    entries[0] |= {"name": f"{versions[0]} (stable)", "preferred": True}
    (options.folder / "versions.json").write_text(json.dumps(entries, indent=1) + "\n")
    lead = f'<meta http-equiv="refresh" content="0; url={versions[0]}/">\n'
    (options.folder / "index.html").write_text(lead)


if __name__ == "__main__":
    main()
