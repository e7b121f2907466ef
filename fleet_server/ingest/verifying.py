"""Crops from the queue through the verifier. The verifier may be missing, may die, may come back; no crop is lost over it."""

import logging
from pathlib import Path

from fleet_server.alerts.parts import is_news, note_part
from fleet_server.context import Context
from fleet_server.detections import service as detections
from fleet_server.errors import NotFoundError, UnavailableError
from fleet_server.verification import service as verification
from fleet_server.verification.local_tflite import CropError, LocalVerifier, VerifierDeadError

log = logging.getLogger(__name__)

RETRY_S = 15.0
"""How long a dead verifier is left alone before it is loaded again."""
BATCH = 8


class Verifying:
    """The verifier's side of the worker; not for two threads."""

    def __init__(self, context: Context, owner: str) -> None:
        self._context = context
        self._owner = owner
        self._verifier: LocalVerifier | None = None
        self._not_before_s = 0.0

    def find_crops(self) -> int:
        """Look for crops that events named; those that the store has are queued. Answers how many came."""
        here, now_s = self._context, self._context.clock()
        with here.database.read() as session:
            wanted = detections.crops_to_check(session, now_s=now_s)
        if not wanted:
            return 0
        try:
            found = detections.look_up(here.blobs, wanted)
        except UnavailableError as error:
            log.warning("the blob store does not answer: %s", error.detail)
            return 0
        with here.database.write() as session:
            delivered = detections.mark_checked(session, found, now_s=now_s)
            verification.enqueue(session, delivered, now_s)
        return len(delivered)

    def verify_some(self) -> int:
        """Judge up to one batch; answers how many crops were dealt with."""
        here, now_s = self._context, self._context.clock()
        verifier = self._ready(now_s)
        if verifier is None:
            return 0
        with here.database.read() as session:
            if verification.backlog(session, now_s).waiting == 0:
                return 0
        with here.database.write() as session:
            jobs = verification.claim(session, self._owner, now_s=now_s, limit=BATCH)
        for index, job in enumerate(jobs):
            try:
                self._judge(verifier, job)
            except (VerifierDeadError, UnavailableError) as error:
                with here.database.write() as session:
                    verification.give_back(session, jobs[index:], self._owner)
                if isinstance(error, VerifierDeadError):
                    self._die(str(error), now_s)
                return index
        return len(jobs)

    def _judge(self, verifier: LocalVerifier, job: verification.Job) -> None:
        here = self._context
        try:
            verdict = verifier.verify(here.blobs.read(job.key))
        except (CropError, NotFoundError) as error:
            with here.database.write() as session:
                verification.fail(session, job.key, self._owner, str(error), now_s=here.clock())
            return
        with here.database.write() as session:
            verification.finish(session, job.key, self._owner, verdict, verifier=verifier.name, now_s=here.clock())

    def _ready(self, now_s: float) -> LocalVerifier | None:
        settings = self._context.settings
        if not settings.verifier_model:
            self._note(True, "none", now_s)
            return None
        if self._verifier is None and now_s >= self._not_before_s:
            try:
                self._verifier = LocalVerifier(Path(settings.verifier_model), Path(settings.verifier_card))
            except VerifierDeadError as error:
                self._die(str(error), now_s)
            else:
                self._note(True, f"{self._verifier.name} answers", now_s)
        return self._verifier

    def _die(self, problem: str, now_s: float) -> None:
        log.error("the verifier is dead: %s", problem)
        self._verifier, self._not_before_s = None, now_s + RETRY_S
        self._note(False, problem, now_s)

    def _note(self, ok: bool, note: str, now_s: float) -> None:
        with self._context.database.read() as session:
            if not is_news(session, "verifier", ok, note):
                return
        with self._context.database.write() as session:
            note_part(session, "verifier", ok=ok, note=note, now_s=now_s)
