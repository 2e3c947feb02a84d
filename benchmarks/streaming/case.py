"""What a contestant is given: where the data lie, what to deliver, how it will be checked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Server:
    """An S3 server, or a proxy before it."""

    endpoint: str
    key: str
    secret: str
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """For boto3, pyarrow, s3fs and all that read AWS's variables."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "S3_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ALLOW_HTTP": "true",
        }


@dataclass(frozen=True)
class Case:
    """One work at one source for one contestant.

    Attributes:
        work, source, rival: their names.
        url: the folder of the files, local or s3://.
        files: their URLs, in order.
        format: 'parquet' or 'tar'.
        columns: the value columns that are wanted; `id` comes with them.
        decode: the values are JPEGs, to be delivered as RGB uint8 crops of 224 by 224.
        batch: rows a batch.
        rows: of an epoch; their ids are 0 to rows - 1.
        payload: bytes that an epoch delivers in `columns`.
        checksum: of those bytes, see `touch`; None where decoders may differ.
        server: of an s3:// URL.
        converted: the local folder with this contestant's own form of the data, where it needs one.
        converted_url: the same at the source.
        cores: that may be used.
        options: of the contestant.
    """

    work: str
    source: str
    rival: str
    url: str
    files: tuple[str, ...]
    format: str
    columns: tuple[str, ...]
    decode: bool
    batch: int
    rows: int
    payload: int
    checksum: int | None
    server: Server | None = None
    converted: str | None = None
    converted_url: str | None = None
    cores: int = 1
    options: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """For the process of the contestant."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The same again."""
        found: dict[str, Any] = json.loads(text)
        for name in ("files", "columns"):
            found[name] = tuple(found[name])
        found["server"] = found["server"] and Server(**found["server"])
        return cls(**found)

    def option(self, name: str, default: str) -> str:
        """An option of the contestant, as text."""
        return self.options.get(name, default)
