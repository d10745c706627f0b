"""Uploads are bounded while they come in: a file that is too large is dropped, and never fills the disk first."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler, SkipFile

from cases.attachments import LARGEST

MOST_AT_ONCE = 5


class Bounded(FileUploadHandler):
    """The first handler of every upload: drops files past their largest size, and those past MOST_AT_ONCE.

    What was dropped stands in `request.dropped_files`, so that the page can say so.
    """

    def __init__(self, request: Any = None) -> None:
        super().__init__(request)
        self.files = self.size = 0

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Count the files of the request."""
        super().new_file(*args, **kwargs)
        self.files += 1
        self.size = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Hand the chunk on to the next handler, unless the file is too large by now or one too many.

        Files are dropped here only: a handler behind still holds the file before until `new_file` reached it.
        """
        self.size += len(raw_data)
        if self.size > LARGEST or self.files > MOST_AT_ONCE:
            self._drop()
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to the handlers behind."""

    def _drop(self) -> None:
        dropped = getattr(self.request, "dropped_files", [])
        self.request.dropped_files = [*dropped, self.file_name or "a file"]
        raise SkipFile
