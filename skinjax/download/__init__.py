"""Getting the published data sets: `download` is the way in."""

from skinjax.download.catalog import Addresses
from skinjax.download.delivery import ATTRIBUTION, download
from skinjax.download.server import Patience, TransferError

__all__ = ["ATTRIBUTION", "Addresses", "Patience", "TransferError", "download"]
