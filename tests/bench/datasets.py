"""The retrieval data sets of ../shared/data: BEIR layout, read straight from their archives."""

import csv
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """`corpus`: id → (title, text). `queries`: id → text, those with judgements. `qrels`: query id → document id → gain."""

    name: str
    corpus: dict[str, tuple[str, str]]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def load(name: str, split: str = "test") -> Dataset:
    """Read one data set; exits with a plain sentence if the archive is not there."""
    archive = DATA / f"{name}.tar.gz"
    if not archive.is_file():
        raise SystemExit(f"{name}: no {archive.name} in ../shared/data beside the checkout; this measurement needs it")
    with tarfile.open(archive) as tar:
        members = {
            Path(member.name).as_posix().split("/", 1)[-1]: member for member in tar.getmembers() if member.isfile()
        }
        read = {
            path: _text(tar, member) for path, member in members.items() if path.endswith((".jsonl", f"{split}.tsv"))
        }
    corpus = {row["_id"]: (row.get("title", ""), row["text"]) for row in _rows(read["corpus.jsonl"])}
    texts = {row["_id"]: row["text"] for row in _rows(read["queries.jsonl"])}
    qrels: dict[str, dict[str, int]] = {}
    for row in csv.DictReader(io.StringIO(read[f"qrels/{split}.tsv"]), delimiter="\t"):
        if int(row["score"]) > 0:
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return Dataset(name=name, corpus=corpus, queries={query: texts[query] for query in qrels}, qrels=qrels)


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    assert file is not None
    return file.read().decode()


def _rows(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]
