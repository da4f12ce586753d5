"""Where browser tests keep their screenshots."""

from pathlib import Path

ARTEFACTS = Path(__file__).resolve().parent / "artefacts"
