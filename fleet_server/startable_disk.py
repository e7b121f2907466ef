"""Whether a server could start with these settings: one list for ``run``, which refuses, and for ``check``, which tells."""

from collections.abc import Callable

from fleet_server import operator_tls_x509
from fleet_server.accounts import service as accounts
from fleet_server.assemble import bucket
from fleet_server.errors import SettingsError
from fleet_server.outgoing_http import rule_of
from fleet_server.private_door_http import check_device_door
from fleet_server.settings import Settings
from fleet_server.settings_checks import check_broker, check_device_host, check_operator_door


def problems(settings: Settings, now_s: float) -> list[SettingsError]:
    """Everything that speaks against it, in words; reads certificate files, writes nothing."""
    looks: tuple[Callable[[Settings], object], ...] = (
        check_device_host, check_device_door, check_operator_door, lambda given: operator_tls_x509.check_files(given, now_s),
        rule_of, accounts.check_settings, check_broker, bucket,
    )  # fmt: skip
    found = []
    for look in looks:
        try:
            look(settings)
        except SettingsError as error:
            found.append(error)
    return found


def check_startable(settings: Settings, now_s: float) -> None:
    """The first of the problems, raised as the SettingsError that it is."""
    for error in problems(settings, now_s):
        raise error
