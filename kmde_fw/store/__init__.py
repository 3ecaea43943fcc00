"""The database: the only importer of pymongo and gridfs. Documents are written once and never edited."""

from kmde_fw.store import queries
from kmde_fw.store.connect import Connection, connect, read_launchpad
from kmde_fw.store.documents import COLLECTIONS, Store, contents, plain

__all__ = ["COLLECTIONS", "Connection", "Store", "connect", "contents", "plain", "queries", "read_launchpad"]
