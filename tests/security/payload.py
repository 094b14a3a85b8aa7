"""A harmless stranger: what it plants leaves a marker file if it is ever executed."""

import io
import pickle
import zipfile
from pathlib import Path


class Payload:
    """Makes things that write `marker` when they run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def pickled(self) -> bytes:
        """Unpickling it makes the marker."""
        path = str(self.marker).encode()
        command = b"open(" + repr(path.decode()).encode() + b", 'w').close()"
        return b"cbuiltins\nexec\n(V" + command.replace(b"\\", b"\\\\") + b"\ntR."

    def torch_checkpoint(self) -> bytes:
        """The zip file that torch.save writes, with the pickle inside."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", self.pickled())
            archive.writestr("archive/version", b"3\n")
            archive.writestr("archive/byteorder", b"little")
        return buffer.getvalue()

    def code(self) -> str:
        """Importing or running it makes the marker."""
        return f"open({str(self.marker)!r}, 'w').close()\n"

    def works(self) -> bool:
        """Whether the pickle does what it is meant to: a test that could not fail would show nothing."""
        pickle.loads(self.pickled())
        ran = self.marker.exists()
        self.marker.unlink(missing_ok=True)
        return ran
