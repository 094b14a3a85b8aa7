"""Lets the tests here share how they write a small corpus."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
