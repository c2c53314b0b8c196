#!/usr/bin/python3
"""What MLflow and the backup ask of an S3-compatible store, on files that outlive it; keys count, not signatures."""

import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

GIVEN = dict(each.lstrip("-").split("=", 1) for each in sys.argv[2:] if "=" in each)
STORE, PARTS = Path(GIVEN["dir"]) / "buckets", Path(GIVEN["dir"]) / "parts"
IDENTITIES = json.loads(Path(GIVEN["s3.config"]).read_text())["identities"]
KEYS = {each["accessKey"] for identity in IDENTITIES for each in identity["credentials"]}


def write(path: Path, content: bytes) -> str:
    """Put a file in place as a whole, on disk, and return its ETag."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = PARTS / uuid.uuid4().hex
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return f'"{hashlib.md5(content).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """Answers requests; a bucket is a folder, an object a file below it."""

    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes | str = b"", **headers: str) -> None:
        """Send status, headers (``_`` for ``-``) and body."""
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def refuse(self, status: int, code: str) -> None:
        """Send an error by its code."""
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>")

    def handle_request(self) -> None:
        """Look at path and key, and pass on."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        if url.path == "/healthz":
            return self.answer(200)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        signed = query.get("X-Amz-Credential") or self.headers.get("Authorization", "").partition("Credential=")[2]
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if signed.split("/")[0] not in KEYS or ".." in key.split("/"):
            return self.refuse(403, "InvalidAccessKeyId")
        if bucket and not (STORE / bucket).is_dir() and (key or self.command != "PUT"):
            return self.refuse(404, "NoSuchBucket")
        return (self.of_object if key else self.of_bucket)(STORE / bucket, key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

    def of_bucket(self, bucket: Path, _: str, query: dict[str, str], body: bytes) -> None:
        """List, create or empty."""
        if bucket == STORE:
            names = "".join(f"<Bucket><Name>{each.name}</Name></Bucket>" for each in STORE.iterdir())
            self.answer(200, f"<ListAllMyBucketsResult><Buckets>{names}</Buckets></ListAllMyBucketsResult>")
        elif self.command == "PUT":
            bucket.mkdir(exist_ok=True)
            self.answer(200)
        elif self.command == "POST" and "delete" in query:
            for each in ElementTree.fromstring(body).iter():
                if each.tag.endswith("Key"):
                    (bucket / (each.text or "")).unlink(missing_ok=True)
            self.answer(200, "<DeleteResult/>")
        elif self.command == "GET":
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
            below = (bucket / prefix.rpartition("/")[0]).rglob("*")
            keys = sorted(str(each.relative_to(bucket)) for each in below if each.is_file())
            keys = [each for each in keys if each.startswith(prefix)]
            deeper = {prefix + each[len(prefix) :].split("/")[0] + "/" for each in keys if "/" in each[len(prefix) :]}
            if delimiter:
                keys = [each for each in keys if "/" not in each[len(prefix) :]]
            found = "".join(
                f"<Contents><Key>{escape(each)}</Key><Size>{(bucket / each).stat().st_size}</Size></Contents>"
                for each in keys
            )
            if delimiter:
                found += "".join(
                    f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(deeper)
                )
            self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")
        else:
            self.answer(200)

    def of_object(self, bucket: Path, key: str, query: dict[str, str], body: bytes) -> None:
        """Read, write or delete, in parts too."""
        path = bucket / key
        parts = PARTS / re.sub(r"\W", "", query.get("uploadId", ""))
        if "uploads" in query:
            parts = PARTS / uuid.uuid4().hex
            parts.mkdir()
            name = f"<UploadId>{parts.name}</UploadId>"
            self.answer(200, f"<InitiateMultipartUploadResult>{name}</InitiateMultipartUploadResult>")
        elif self.command == "PUT":
            self.answer(
                200, ETag=write(parts / f"{int(query['partNumber']):05}" if "uploadId" in query else path, body)
            )
        elif self.command == "POST":
            tag = write(path, b"".join(each.read_bytes() for each in sorted(parts.iterdir())))
            shutil.rmtree(parts)
            self.answer(200, f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>")
        elif self.command == "DELETE":
            path.unlink(missing_ok=True)
            self.answer(204)
        elif not path.is_file():
            self.refuse(404, "NoSuchKey")
        else:
            content = path.read_bytes()
            first, last = 0, len(content) - 1
            if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(asked[1]), min(last, int(asked[2] or last))
            headers = {"Last_Modified": formatdate(path.stat().st_mtime, usegmt=True), "Accept_Ranges": "bytes"}
            headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
            if asked:
                headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
            self.answer(206 if asked else 200, content[first : last + 1], **headers)


if __name__ == "__main__":
    for folder in (STORE, PARTS):
        folder.mkdir(exist_ok=True)
    ThreadingHTTPServer(("0.0.0.0", int(GIVEN["s3.port"])), Handler).serve_forever()
