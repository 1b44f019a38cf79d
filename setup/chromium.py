"""The browser that the dashboard's tests drive: found on the PATH, else installed on Debian by root. Standard library only."""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ADVICE = "the browser tests need Chromium on the PATH, or Debian and root to install it: there is neither"


def main() -> int:
    if any(shutil.which(name) for name in NAMES):
        return 0
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.stderr.write(f"{ADVICE}\n")
        return 1
    sys.stderr.write("==> installing Chromium for the browser tests\n")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium"]
    for command in (["apt-get", "update", "--quiet"], install):
        if subprocess.run(command, check=False, env=env, stdout=sys.stderr.fileno()).returncode != 0:
            sys.stderr.write(f"{ADVICE} (`{' '.join(command[:2])}` failed)\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
