"""Whatever a format library or a file system raises, as an error that says which file, unit and column it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from runner.data.files.opening import FileChanged
from runner.errors import DataError, RunnerError

#: What wrong code raises, not wrong data.
_BUGS = (TypeError, AttributeError, AssertionError, NameError, ImportError)


@contextlib.contextmanager
def explained(url: str, unit: int | None = None, of_content: type[DataError] = DataError) -> Iterator[None]:
    """Turns any error of reading and decoding into a DataError that names URL and unit.

    Args:
        of_content: the class of errors of what is in the file, rather than of how it is reached.
    """
    where = url if unit is None else f"{url} (unit {unit})"
    try:
        yield
    except DataError as error:
        if error.where:
            raise
        kind = of_content if type(error) is DataError else type(error)
        raise kind(error.found, allowed=error.allowed, todo=error.todo, where=where) from error
    except (RunnerError, MemoryError, *_BUGS):
        raise
    except FileNotFoundError as error:
        raise DataError(
            "the file is gone",
            allowed="the files that were listed",
            todo="restore it, or list again",
            where=where,
        ) from error
    except FileChanged as error:
        raise DataError(
            f"it has changed: {error}",
            allowed="the files that were listed, as they were then",
            todo="put the old one back; or list again: make the Stream or submit the job anew, which reads the new one",
            where=where,
        ) from error
    except PermissionError as error:
        raise DataError(
            f"no permission to read it ({error})",
            allowed="files that this user may read",
            todo="check its owner or the credentials",
            where=where,
        ) from error
    except Exception as error:  # each format and each file system has its own kinds
        raise _other(error, where, of_content) from error


def _other(error: Exception, where: str, of_content: type[DataError]) -> DataError:
    words = " ".join(str(error).split()) or type(error).__name__
    if _is_of_content(error):
        return of_content(
            f"it cannot be decoded ({words})",
            allowed="a complete file of its format, with one schema throughout",
            todo="replace the file, or give format= if its ending misleads",
            where=where,
        )
    return DataError(
        f"it cannot be read ({type(error).__name__}: {words})",
        allowed="a file that can be read from start to end",
        todo="check the disk, the network and the store that it lies on",
        where=where,
    )


def _is_of_content(error: Exception) -> bool:
    """Whether it is the bytes that are wrong, rather than how they are reached."""
    if isinstance(error, OSError) and error.errno is not None:
        return False
    kinds = (pa.ArrowException, EOFError, ValueError, OverflowError, LookupError, OSError)
    return isinstance(error, kinds) or type(error).__module__.startswith(("lzma", "_lzma", "zlib", "pyarrow"))
