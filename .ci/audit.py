"""Ask PyPI's advisory service about every pinned version: `make audit`.

pip-audit says "no known vulnerabilities" and exits with 0 when it skipped every package. Here an audit that did not hear
of each version that is installed on this kind of machine has failed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def pins(path: Path) -> dict[str, str]:
    """The versions that apply on this machine, by normalised name."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                name = re.sub(r"[-_.]+", "-", requirement.name).lower()
                found[name] = str(requirement.specifier).removeprefix("==")
    return found


def main(path: Path) -> int:
    """Audit; 0 only if every pin was looked up and nothing is known against any."""
    wanted = pins(path)
    if not wanted:
        print(f"audit failed: {path} pins nothing", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        report, applying = Path(folder, "report.json"), Path(folder, "pins.txt")
        applying.write_text("".join(f"{name}=={version}\n" for name, version in wanted.items()), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip", "--progress-spinner=off"]
        done = subprocess.run(
            [*command, "--format=json", f"--output={report}", "--requirement", str(applying)],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            audited = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
        except (OSError, ValueError, KeyError):
            audited = []
    heard = {one["name"] for one in audited if "vulns" in one}
    silent = sorted(wanted.keys() - {re.sub(r"[-_.]+", "-", name).lower() for name in heard})
    holes = [(one["name"], one["version"], hole["id"]) for one in audited for hole in one.get("vulns", [])]
    for name, version, hole in holes:
        print(f"  {name} {version}: {hole}")
    if silent or done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(
            f"audit failed: {len(wanted) - len(silent)} of {len(wanted)} pinned versions were looked up, {len(holes)} "
            f"holes found; {reason}",
            file=sys.stderr,
        )
        return 1
    print(f"all {len(wanted)} pinned versions were looked up; nothing is known against any of them")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else CONSTRAINTS))
