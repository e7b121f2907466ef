"""The link as a whole: one identity for HTTPS and broker, switched together; and the time for a board that has none."""

import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.errors import ServerNonsenseError, ServerRefusedError
from device_agent.link.api_http import DeviceApi
from device_agent.link.clock import TrustedClock
from device_agent.link.identity_x509 import Identity
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.link.told_time import believed_s
from ota.trust.key_types import Key
from ota.wire.assignments import StateRequest
from ota.wire.codec import MessageError, decode
from ota.wire.enrolment import EnrolAnswer, TimeAnswer, TimeRequest
from ota.wire.late_renewal import LateRenewalRequest

if TYPE_CHECKING:
    from device_agent.link.broker_mqtt import Broker

log = logging.getLogger(__name__)


class ServerSide:
    """``woken`` is called when the broker wakes this device, ``device_known`` with the id whenever an identity is used.

    ``broker_allowed``: whether this board's policy lets it speak to a broker at this host and port; ``broker_at``: where the
    broker is by now that was told at this host and port; ``sign``: requests are signed, for where TLS ends before the server.
    """

    def __init__(
        self,
        api: DeviceApi,
        ca_file: Path,
        clock: TrustedClock,
        count: ByteCount,
        *,
        woken: Callable[[], None],
        device_known: Callable[[str], None],
        broker_allowed: Callable[[str, int], bool] = lambda host, port: True,
        broker_at: Callable[[str, int], tuple[str, int]] = lambda host, port: (host, port),
        sign: bool = False,
    ) -> None:
        self.broker: Broker | None = None
        self.keys: Callable[[], Mapping[str, Key]] = dict
        """Assignment keys that the offline-signed metadata names, as far as they are known."""
        self._api, self._ca_file, self._clock, self._count = api, ca_file, clock, count
        self._woken, self._device_known, self._broker_allowed = woken, device_known, broker_allowed
        self._broker_at, self._sign = broker_at, sign
        self._used: Identity | None = None

    def use(self, identity: Identity) -> None:
        """Speak as this device from now on."""
        if identity == self._used:
            return
        self._used = identity
        tls = context(self._ca_file, identity, check_dates=not self._clock.behind())
        signer = None
        if self._sign:
            from device_agent.link.request_signer_x509 import RequestSigner  # who does not sign does not load it

            signer = RequestSigner(identity, self._clock.now_s, lambda: self.keys(), self._clock.verified)
        self._api.use(tls, signer)
        self._device_known(identity.device)
        self._leave_broker()
        if identity.broker is not None:
            host, port = self._broker_at(*identity.broker)
            if not self._broker_allowed(host, port):
                # The server chose the broker's address; how far it may lead this board is not the server's to say.
                log.warning("the broker %s:%d is not used: this board's policy.toml does not list it in server_hosts", host, port)
                return
            from device_agent.link.broker_mqtt import Broker  # a server without a broker costs no MQTT client

            self.broker = Broker(host, port, identity.device, tls, self._count, self._woken)
            self.broker.start()

    def confirm(self) -> None:
        """One call that only a good certificate passes; raises the link's errors."""
        self._api.state(StateRequest(nonce=secrets.token_hex(16), seq=0))

    def learn_time(self) -> None:
        """Where the system clock is before what is known to be past: ask for the time, over TLS judged without dates.

        The answer must echo our nonce and, as soon as the assignment keys are known, carry their signature; before that the
        pinned chain alone vouches for it. Used for nothing else. Raises the link's errors.
        """
        if not self._clock.behind():
            return
        nonce = secrets.token_hex(16)
        asking = DeviceApi(self._api.where, context(self._ca_file, check_dates=False), self._count, timeout_s=10.0)
        try:
            signed = asking.time(TimeRequest(nonce=nonce))
        finally:
            asking.close()
        self._clock.verified(believed_s(signed, nonce, self.keys()))
        log.warning("the system clock is behind; the server's time is used")

    def renew_late(self, make: Callable[[float], LateRenewalRequest]) -> EnrolAnswer:
        """Ask for a certificate though ours has ended: without it, because no TLS takes it any more.

        Where the server does not agree on the time, it is asked for its own, and the proof is made anew.
        """
        tls = context(self._ca_file, self._used, check_dates=not self._clock.behind(), show=False)
        asking = DeviceApi(self._api.where_with_prefix, tls, self._count, timeout_s=20.0, now_s=self._clock.server_s)
        try:
            try:
                return asking.renew_expired(make(self._clock.now_s()))
            except ServerRefusedError as refused:
                if refused.status != 401:
                    raise
            nonce = secrets.token_hex(16)
            return asking.renew_expired(make(believed_s(asking.time(TimeRequest(nonce=nonce)), nonce, self.keys())))
        finally:
            asking.close()

    def probe(self, url: str) -> None:
        """Ask an address for the time, without our certificate: only a server of the pinned authority answers our nonce there."""
        nonce = secrets.token_hex(16)
        tls = context(self._ca_file, self._used, check_dates=not self._clock.behind(), show=False)
        asking = DeviceApi(url, tls, self._count, timeout_s=10.0)
        try:
            told = decode(TimeAnswer, asking.time(TimeRequest(nonce=nonce)).payload.encode())
        except MessageError as error:
            raise ServerNonsenseError(f"{url} answers, but not as our server: {error}") from None
        finally:
            asking.close()
        if told.nonce != nonce:
            raise ServerNonsenseError(f"{url} answers, but not to what was asked")

    def broker_connected(self) -> bool:
        """Whether the broker can be used now."""
        return self.broker is not None and self.broker.connected

    def close(self) -> None:
        """Leave the broker."""
        self._leave_broker()

    def _leave_broker(self) -> None:
        if self.broker is not None:
            self.broker.stop()
            self.broker = None
