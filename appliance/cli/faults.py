"""What goes wrong in the commands that work on files, in the words and exit codes of the shell.

Apart from `errors`, because it has to know the storage engine, which most commands do without.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from appliance.catalog.errors import CatalogError
from appliance.cli.errors import Refused
from appliance.http.errors import HttpError
from appliance.provision import ProvisionRefused
from appliance.rebuild.run import RebuildRefused
from appliance.restore import RestoreRefused
from appliance.secrets import SecretsError
from appliance.servers import TokenFileInvalid
from appliance.settings_file import SettingsInvalid
from appliance.storage import VolumeMismatch
from hal.errors import HalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["translate_faults"]

# The state of files, devices or addresses forbids it.
_REFUSALS = (
    CatalogError,
    HalError,
    HttpError,
    ProvisionRefused,
    RebuildRefused,
    RestoreRefused,
    SecretsError,
    TokenFileInvalid,
    VolumeMismatch,
)


@contextlib.contextmanager
def translate_faults() -> Iterator[None]:
    """Turn what the appliance's own layers raise into exit codes; a fault of ours passes through.

    Raises:
        Refused: An operating error, whatever group it came in.
        click.UsageError: The settings are wrong.
    """
    try:
        yield
    except Exception as error:
        cause = _find_cause(error)
        if isinstance(cause, SettingsInvalid):
            raise click.UsageError(str(cause)) from error
        if isinstance(cause, _REFUSALS):
            raise Refused(str(cause)) from error
        raise


def _find_cause(error: BaseException) -> BaseException:
    """The one error inside groups of one; a group of several is a fault of ours to look at."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
