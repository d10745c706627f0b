"""Profiles on disk: a file that is wholly there or not at all, and that can be written while its lane goes on judging.

A header of fixed size; then blocks, one after the other: a table as it lies in memory, or those of its chunks that
changed after it was written; then the SHA-256 of blocks and header. Whoever reads takes the blocks in their order.

So nobody need stand still while hundreds of megabytes are copied, and nothing is kept twice. A thread copies the
tables, torn as they may be, since the kernel goes on writing into them and notes where. Between two commits the lane
hands over what was noted, and again; once that is little, it copies the last of it itself, in milliseconds: that is the
moment which the snapshot is of. A forked child did the same until each page that it shared with the lane cost the lane
a fault when it was next written to: seconds in which payments waited (`docs/decisions/0012-snapshots.md`).
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from scoring.profiles import CHUNK, LAYOUT_VERSION, WIDTHS, Profiles

MAGIC = b"profiles 2\n"
ENTRIES = b"profiles\n"  # what files of former releases begin with
HEADER = 8_192  # bytes
STEP = 32_768  # changed chunks gathered at once: few turns to wait for, since lane and thread take turns in Python
WHOLE, CHUNKS = "whole", "chunks"
LITTLE = 6_000  # changed chunks that the lane copies itself: a few milliseconds
MOST_ROUNDS = 5  # however much changes
OUT_BYTES, OUT_SECONDS = 1 << 22, 0.03  # hashed and written out at a time, and the rest after it
IN_BYTES = 1 << 20
PATIENCE = 0.05
HASH_BYTES = 32


class BadSnapshot(ValueError):
    """A file of profiles that is damaged, of another layout, or not the one that was asked for."""


class Block(NamedTuple):
    """Something of a table to be written: all of it, or some chunks, whose words were copied already or not."""

    name: str
    words: np.ndarray
    chunks: np.ndarray | None = None
    copied: bool = False


class Snapshot:
    """A snapshot of `memory` under way. Used by the lane between its commits; a thread of its own writes.

    One snapshot of a memory at a time: a second one takes over, and the first leaves no file. The file `spare` is
    written over if it is there: its pages and its place on the disk need not be found anew. Raises OSError.
    """

    def __init__(self, memory: Profiles, folder: Path, name: str = "", *, spare: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.memory, self.folder, self.name, self.began = memory, folder, name, time.monotonic()
        self.spare = spare
        self.mine = memory.watcher = object()
        self.seq: int | None = None  # of the moment that the snapshot is of, once that is past
        self.error: OSError | None = None
        self.sha256 = ""
        self.rounds = 0
        self.tables: dict[str, np.ndarray] = {}  # those written as a whole; another array in its place must be as well
        self.handed: queue.SimpleQueue[list[Block] | tuple[dict[str, Any], str]] = queue.SimpleQueue()
        self.idle, self.hurried, self.dropped = threading.Event(), threading.Event(), threading.Event()
        self.idle.set()
        self.thread = threading.Thread(target=self._write, name="snapshot", daemon=True)
        self.thread.start()

    # --- the lane's side ----------------------------------------------------------------------------------------------

    def step(self, memory: Profiles) -> None:
        """Hand over what changed, if the thread waits for it. `memory` must stand at a point of the lane's log; if it
        is another one by now, there is nothing left to write.
        """
        if self.seq is not None or self.dropped.is_set() or self.over or not self.idle.is_set():
            return
        if memory is not self.memory or memory.watcher is not self.mine:
            self.drop()
            return
        blocks = self._changed(memory)
        last = self.rounds and self._is_little(blocks)
        if last:
            blocks = [_copied(block) for block in blocks]
        self.rounds += 1
        self.idle.clear()
        self.handed.put(blocks)
        if last:
            self.tables.clear()
            self.seq = memory.seq
            self.handed.put((_about(memory), self.name or name_of(memory)))

    def finish(self) -> None:
        """Write what is missing, now; the caller waits. Raises OSError."""
        self.hurried.set()
        while self.seq is None and not self.over:
            self.idle.wait(PATIENCE)  # a thread that just failed sets it no more
            self.step(self.memory)
        self.thread.join()
        if self.error is not None:
            raise self.error

    def drop(self) -> None:
        """Leave no file, unless its moment is past: then only hurry."""
        self.hurried.set()
        if self.seq is None:
            self.dropped.set()
            self.handed.put([])

    @property
    def over(self) -> bool:
        """Whether the thread has ended: the file is there, or `error` says why not, or it was dropped."""
        return not self.thread.is_alive()

    def _changed(self, memory: Profiles) -> list[Block]:
        blocks = []
        for name, words in memory.tables().items():
            chunks, before = memory.take_touched(name), self.tables.get(name)
            # Records grow where they are; other tables are made anew when they grow, and nothing stays in its place.
            if before is None or (name != "words" and not np.may_share_memory(before, words)):
                blocks.append(Block(name, words))
                # The lane's memory of records cannot grow while somebody looks at it.
                self.tables[name] = words if name != "words" else words[:0].copy()
            elif len(chunks):
                blocks.append(Block(name, words, chunks))
        return blocks

    def _is_little(self, blocks: list[Block]) -> bool:
        counts = [len(block.chunks) for block in blocks if block.chunks is not None]
        return len(counts) == len(blocks) and (self.rounds >= MOST_ROUNDS or sum(counts) <= LITTLE)

    # --- the thread's side --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        aside = self.folder / f"{os.getpid()}-{threading.get_native_id()}.aside"
        try:
            if self.spare is not None:
                with suppress(FileNotFoundError):
                    os.replace(self.spare, aside)
            with open(aside, "r+b" if aside.exists() else "w+b", buffering=0) as file:
                _put(file, bytes(HEADER))
                header, name = self._blocks(file)
                if self.dropped.is_set():
                    return
                self._close(file, header)
            os.replace(aside, self.folder / name)
            _sync_folder(self.folder)
        except OSError as error:
            self.error = error
        finally:
            aside.unlink(missing_ok=True)
            self.idle.set()

    def _blocks(self, file: IO[bytes]) -> tuple[dict[str, Any], str]:
        """Write what is handed over until the header comes; that, and the file's name."""
        listed: list[list[Any]] = []
        while True:
            handed = self.handed.get()
            if self.dropped.is_set():
                return {}, ""
            if isinstance(handed, tuple):
                return {**handed[0], "blocks": listed}, handed[1]
            listed += [self._block(file, block) for block in handed]
            del handed  # nobody may look at the memory when it grows in its place
            self.idle.set()

    def _block(self, file: IO[bytes], block: Block) -> list[Any]:
        """Write a block: straight out of the memory, in as few calls as can be."""
        table, chunks = block.words.reshape(-1, CHUNK), block.chunks
        if chunks is None:
            _put(file, block.words)
            return [block.name, WHOLE, len(table)]
        _put(file, chunks.astype(np.int64))
        for start in range(0, len(chunks), STEP):
            some = slice(start, start + STEP)
            _put(file, table[some] if block.copied else np.take(table, chunks[some], axis=0, mode="clip"))
        return [block.name, CHUNKS, len(chunks)]

    def _close(self, file: IO[bytes], header: dict[str, Any]) -> None:
        """Hash and header, and all of it on the disk: bit by bit, so that no commit waits long for it."""
        digest, size, part = hashlib.sha256(), file.tell(), memoryview(bytearray(OUT_BYTES))
        for start in range(HEADER, size, OUT_BYTES):
            read = os.preadv(file.fileno(), [part[: size - start]], start)
            digest.update(part[:read])
            # Begins to write these pages out. It would also let go those that are written already, which none is.
            os.posix_fadvise(file.fileno(), start, OUT_BYTES, os.POSIX_FADV_DONTNEED)
            self.hurried.wait(OUT_SECONDS)
        page = MAGIC + json.dumps(header).encode()
        page = page.ljust(HEADER - 1) + b"\n"
        digest.update(page)
        _put(file, digest.digest())
        file.truncate()
        file.seek(0)
        _put(file, page)
        os.fsync(file.fileno())
        self.sha256 = digest.hexdigest()


def _put(file: IO[bytes], words: Any) -> None:
    view = memoryview(words).cast("B")
    while len(view):
        view = view[file.write(view) :]


def _copied(block: Block) -> Block:
    assert block.chunks is not None
    words = np.take(block.words.reshape(-1, CHUNK), block.chunks, axis=0)
    return block._replace(words=words.ravel(), copied=True)


def _about(memory: Profiles) -> dict[str, Any]:
    return {
        "layout": LAYOUT_VERSION,
        "widths": WIDTHS,
        "lane": memory.lane,
        "epoch": memory.epoch,
        "seq": memory.seq,
        "token": bytes(memory.token).hex(),
        "used": memory.used,
    }


def name_of(memory: Profiles) -> str:
    """The file name of a lane's snapshot: which point of which history it is of."""
    return f"{memory.epoch:06d}-{memory.seq:014d}-{bytes(memory.token).hex()}.profiles"


def save(memory: Profiles, path: Path, *, spare: Path | None = None) -> str:
    """Write a file of profiles that nobody changes meanwhile; its SHA-256 as hex. Raises OSError."""
    snapshot = Snapshot(memory, path.parent, path.name, spare=spare)
    snapshot.finish()
    return snapshot.sha256


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: Path, sha256: str = "") -> Profiles:
    """The profiles in the file at `path`, checked against its own hash, and against `sha256` if given.

    Raises BadSnapshot for a damaged or foreign file, FileNotFoundError if there is none.
    """
    with open(path, "rb") as file:
        begin, digest = file.read(len(MAGIC)), hashlib.sha256()
        file.seek(0)
        try:
            memory = _reader(begin)(file, digest)
        except (KeyError, TypeError, ValueError, IndexError) as error:  # a header that says what cannot be
            raise error if isinstance(error, BadSnapshot) else BadSnapshot(f"{path.name} cannot be read.") from error
        if file.read() != digest.digest() or sha256 not in ("", digest.hexdigest()):
            raise BadSnapshot(f"{path.name} is not the snapshot that was written.")
    return memory


def _reader(begin: bytes) -> Callable[[IO[bytes], Any], Profiles]:
    if begin == MAGIC:
        return _read_blocks
    if begin.startswith(ENTRIES):
        return _read_entries
    raise BadSnapshot("This is no file of profiles.")


def _read_blocks(file: IO[bytes], digest: Any) -> Profiles:
    page = file.read(HEADER)
    header = _header(page[len(MAGIC) :])
    blocks = [Listed(*each) for each in header["blocks"]]
    size = HEADER + sum(each.size for each in blocks) + HASH_BYTES
    if os.fstat(file.fileno()).st_size != size:
        raise BadSnapshot("The snapshot has not the length that its header says.")
    memory, chunks = _profiles(header), -(-header["used"][-1] // CHUNK)
    if chunks > sum(each.n for each in blocks if each.name == "words"):
        raise BadSnapshot("The snapshot has fewer records than its header says.")
    # Records that came while others were being written stand in later blocks: room for all of them now.
    tables = {"words": memory.place_for("words", chunks * CHUNK)}
    for each in blocks:
        if each.what == WHOLE and each.name == "words":
            _read(file, digest, tables["words"][: each.n * CHUNK])
        elif each.what == WHOLE:
            tables[each.name] = memory.place_for(each.name, each.n * CHUNK)
            _read(file, digest, tables[each.name])
        else:
            _read_chunks(file, digest, tables[each.name].reshape(-1, CHUNK), each.n)
    digest.update(page)
    memory.adopt(header["used"])
    return memory


def _read_chunks(file: IO[bytes], digest: Any, table: np.ndarray, n: int) -> None:
    chunks, parts = np.empty(n, np.int64), np.empty((STEP, CHUNK), np.int64)
    _read(file, digest, chunks)
    if n and not 0 <= chunks.min() <= chunks.max() < len(table):
        raise BadSnapshot("The snapshot names chunks that it has no room for.")
    for start in range(0, n, STEP):
        part = parts[: min(STEP, n - start)]
        _read(file, digest, part)
        table[chunks[start : start + len(part)]] = part


class Listed(NamedTuple):
    """A block as the header lists it."""

    name: str
    what: str
    n: int  # chunks

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return 8 * self.n * (CHUNK if self.what == WHOLE else CHUNK + 1)


def _read(file: Any, digest: Any, words: np.ndarray) -> None:
    """Fill `words`, a megabyte at a time, so that it is hashed while it is at hand."""
    view = words.data.cast("B")
    for start in range(0, len(view), IN_BYTES):
        part = view[start : start + IN_BYTES]
        if file.readinto(part) != len(part):
            raise BadSnapshot("The snapshot ends too early.")
        digest.update(part)


def _read_entries(file: IO[bytes], digest: Any) -> Profiles:
    """A file as former releases wrote it: the entries of the tables, without their places."""
    line = file.read(len(ENTRIES)) + file.readline(65_536)
    digest.update(line)
    header = _header(line[len(ENTRIES) :])
    memory, parts = _profiles(header), {}
    for name, rows, columns in header["parts"]:
        into = memory.place_for("words", rows)[:, None] if name == "words" else np.empty((rows, columns), np.int64)
        if rows:
            _read(file, digest, into)
        parts[name] = into
    memory.adopt_entries(parts["entities"], parts["pairs"], parts["marks"])
    memory.adopt(parts["used"][:, 0].tolist())
    return memory


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
        layout, widths = header["layout"], tuple(header["widths"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadSnapshot("The snapshot's header cannot be read.") from error
    if layout != LAYOUT_VERSION or widths != WIDTHS:
        raise BadSnapshot(f"The snapshot has layout {layout}; this kernel reads {LAYOUT_VERSION}.")
    return header


def _profiles(header: dict[str, Any]) -> Profiles:
    memory = Profiles(header["lane"])
    memory.epoch, memory.seq = header["epoch"], header["seq"]
    memory.token = bytes.fromhex(header["token"])
    return memory
