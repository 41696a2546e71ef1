"""What Dataverse lists of a data set: the numbers of its files, their sizes and MD5."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from absl import logging

from skinjax.download import server
from skinjax.download.catalog import File


def list_files(
    session: server.Session,
    base: str,
    doi: str,
    files: Sequence[File],
    patience: server.Patience,
    help: str,
) -> list[File]:
    """Returns `files` as the latest published version has them.

    Where the listing can't be had, or a file is not in it, it stays as it is known. Dataverse
    converts tables: then size and `md5` of its listing are of different files, the converted one
    and the original, and only the MD5 can be used (github.com/IQSS/dataverse/issues/7275).

    Raises:
      UnreachableError: nothing answers there; `help` says how else to get the files.
    """
    url = f"{base}/api/datasets/:persistentId/versions/:latest-published/files?persistentId={doi}"
    few = dataclasses.replace(patience, attempts=min(3, patience.attempts))
    try:
        answer = server.get_json(session, url, few, help)
    except server.UnreachableError:
        raise
    except server.TransferError as error:
        reason = str(error).partition(";")[0]
        logging.warning("no listing (%s): the known file numbers are used", reason)
        return list(files)
    listed = _listed(answer)
    return [_as_listed(file, listed) for file in files]


def _listed(answer: Any) -> dict[str, dict[str, Any]]:
    """What is said of each file, by all its names."""
    listed: dict[str, dict[str, Any]] = {}
    rows = answer.get("data") if isinstance(answer, dict) else None
    for row in rows if isinstance(rows, list) else []:
        known = row.get("dataFile") if isinstance(row, dict) else None
        if isinstance(known, dict) and isinstance(known.get("id"), int):
            for name in (row.get("label"), known.get("filename"), known.get("originalFileName")):
                listed.setdefault(str(name), known)
    return listed


def _as_listed(file: File, listed: dict[str, dict[str, Any]]) -> File:
    known = next((listed[name] for name in (file.name, *file.aliases) if name in listed), None)
    if known is None:
        logging.warning("Dataverse does not list %s: its known number is used", file.name)
        return file
    converted = "originalFileFormat" in known
    checksum = known.get("checksum")
    checksum = checksum if isinstance(checksum, dict) else {}
    md5 = known.get("md5") or (checksum.get("value") if checksum.get("type") == "MD5" else "")
    if md5 and file.md5 and md5 != file.md5:
        logging.warning(
            "%s has been changed by its publisher: MD5 %s, and was %s", file.name, md5, file.md5
        )
    size = known.get("filesize")
    return dataclasses.replace(
        file,
        path=f"/api/access/datafile/{known['id']}" + ("?format=original" if converted else ""),
        size=size if isinstance(size, int) and not converted else None,
        md5=str(md5 or ""),
    )
