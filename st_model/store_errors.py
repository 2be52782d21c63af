"""What can go wrong with the store, and the one place where Redis errors become ours.

    StoreError
      StoreUnavailable (ConnectionError)   refused, timed out, still loading; comes back by itself: keep going, retry
        NotRedis                           something else answers on that address
      StoreDenied (PermissionError)        wrong or missing password, command not allowed
      StoreFull (OSError)                  out of memory or disk; reading still works
      WrongKeyType (TypeError)             a key of ours holds something foreign
      SchemaMismatch (ValueError)          written by another version of this program
      AxesMismatch (ValueError)            counts with another bin width, origin or number of bins
      JournalCorrupt (ValueError)          a journal line other than the last is damaged
      ServerFailed (OSError)               the embedded server does not start

Messages are one line, say what to do, and never hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(Exception):
    """Anything wrong with the store."""


class StoreUnavailable(StoreError, ConnectionError):
    """Redis does not answer."""


class NotRedis(StoreUnavailable):
    """What answers does not speak the Redis protocol."""


class StoreDenied(StoreError, PermissionError):
    """Redis refuses the user or the password."""


class StoreFull(StoreError, OSError):
    """Redis has no memory or disk left to write."""


class WrongKeyType(StoreError, TypeError):
    """A key of the site holds a value of another type."""


class SchemaMismatch(StoreError, ValueError):
    """The site was written by a program with another layout."""


class AxesMismatch(StoreError, ValueError):
    """The site's counts have other bins."""


class JournalCorrupt(StoreError, ValueError):
    """A journal is damaged before its last line."""


class ServerFailed(StoreError, OSError):
    """The embedded server does not start."""


def redact(url: str) -> str:
    """The URL without user and password.

    >>> redact("redis://me:s3cr@t@db.example:6379/0")
    'redis://***@db.example:6379/0'
    >>> redact("redis://db.example?password=s3cret&db=1")
    'redis://db.example?password=***&db=1'
    """
    return re.sub(r"((?:password|username)=)[^&]*", r"\1***", re.sub(r"//.*@", "//***@", url))


@contextmanager
def translated(place: str, site: str) -> Iterator[None]:
    """Turn every Redis error inside the block into a StoreError. `place` is a redacted URL."""
    from redis import exceptions as redis_errors

    try:
        yield
    except (redis_errors.RedisError, redis_errors.RedisClusterException) as error:
        said = " ".join(str(error).split())
        match error:
            case redis_errors.AuthenticationError() | redis_errors.NoPermissionError():
                ours: StoreError = StoreDenied(f"Redis at {place} refuses the login: {_LOGIN}")
            case redis_errors.InvalidResponse():
                ours = NotRedis(f"what answers at {place} is not a Redis server: check host and port")
            case redis_errors.OutOfMemoryError():
                ours = StoreFull(f"Redis at {place} {_MEMORY}")
            case redis_errors.TimeoutError():
                ours = StoreUnavailable(f"Redis at {place} does not answer in time")
            case redis_errors.BusyLoadingError():
                ours = StoreUnavailable(f"Redis at {place} is still loading its data")
            case redis_errors.RedisClusterException() | redis_errors.ClusterDownError():
                ours = StoreUnavailable(f"the Redis Cluster at {place} is not complete ({said})")
            case redis_errors.ConnectionError() if "closed" in said or "reset" in said:
                ours = StoreUnavailable(
                    f"the connection to {place} was closed at the other end: is that a Redis server? "
                    f"(one that wants TLS needs rediss://)"
                )
            case redis_errors.ConnectionError():
                ours = StoreUnavailable(f"cannot reach Redis at {place} ({said}): is it running?")
            case _:
                ours = _from_reply(said, place, site)
        raise ours from None


_LOGIN = "check user, password and their rights"
_MEMORY = "has reached its maxmemory: raise it, or shorten the retention"


def _from_reply(reply: str, place: str, site: str) -> StoreError:
    """The error that an error reply of the server means."""
    if reply.startswith("SCHEMA "):
        return SchemaMismatch(
            f"site {site!r} at {place} was written with schema {reply[7:].split()[0]}, this program reads another: "
            f"update the program, or use another site name"
        )
    if reply.startswith("AXES "):
        return AxesMismatch(
            f"site {site!r} at {place} holds counts with {reply[5:]}: use these settings, another site name, "
            f"or reset the tables"
        )
    if "WRONGTYPE" in reply:
        return WrongKeyType(
            f"a key of site {site!r} at {place} holds something else than this program writes: "
            f"another program uses the same name; choose another site name or Redis database"
        )
    if "NOAUTH" in reply or "WRONGPASS" in reply or "NOPERM" in reply or "invalid password" in reply:
        return StoreDenied(f"Redis at {place} refuses the login: {_LOGIN}")
    if reply.startswith("OOM") or "command not allowed when used memory" in reply:
        return StoreFull(f"Redis at {place} {_MEMORY}")
    if "MISCONF" in reply:
        return StoreFull(f"Redis at {place} cannot write its files: free some disk space there")
    if "READONLY" in reply:
        return StoreError(f"Redis at {place} is a read-only replica: give the address of its primary")
    return StoreError(f"Redis at {place}: {reply}")
