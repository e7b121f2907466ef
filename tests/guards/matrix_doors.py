"""Guards of the device door, of enrolment and of the broker."""

from tests.guards.guard import Guard

ENROLMENT = "tests/fleet_server/enrolment/test_enrolment.py"
PROFILES = "tests/fleet_server/enrolment/test_authority_profiles.py"
PROCESSES = "tests/fleet_server/core/test_server_processes.py"
CLAIMS = "fleet_server/enrolment/claims.py"
CERTIFICATES = "fleet_server/enrolment/certificates.py"
AUTHORITY = "fleet_server/enrolment/authority_x509.py"
TERMS = f"{ENROLMENT}::test_a_claim_is_good_only_on_its_terms"
EACH_REASON = f"{ENROLMENT}::test_a_certificate_is_refused_for_each_other_reason"
OWN_BRANCH = f"{PROCESSES}::test_on_the_broker_a_device_has_its_own_branch_and_nothing_else"
BROKER = "fleet_server/broker_disk.py"
NOT_OURS_TO_SIGN = f"{ENROLMENT}::test_requests_that_are_not_ours_to_sign"

GUARDS = (
    Guard(
        "a claim is known",
        "membership of the fleet",
        "a stranger who guesses",
        CLAIMS,
        '        raise ForbiddenError("this claim is not known here", NEW_CLAIM)\n',
        "        return session.scalars(select(ClaimRow)).first()\n",
        (f"{ENROLMENT}::test_an_unknown_claim_is_refused",),
    ),
    Guard(
        "a claim is used once",
        "membership of the fleet",
        "a copied card image",
        "fleet_server/enrolment/asking.py",
        "    if claim.used_s is not None:\n",
        "    if False:\n",
        (
            f"{ENROLMENT}::test_a_lost_answer_can_be_asked_for_again",
            f"{ENROLMENT}::test_two_boards_race_for_one_claim",
        ),
    ),
    Guard(
        "a claim ends",
        "membership of the fleet",
        "whoever finds an old claim",
        CLAIMS,
        "    if claim.expires_s < now_s:\n",
        "    if False:\n",
        (TERMS,),
    ),
    Guard(
        "a claim is bound to a serial number",
        "membership of the fleet",
        "whoever finds a claim",
        CLAIMS,
        "    if claim.serial is not None and claim.serial != facts.serial:\n",
        "    if False:\n",
        (TERMS,),
    ),
    Guard(
        "a claim is bound to a board profile",
        "membership of the fleet",
        "whoever finds a claim",
        CLAIMS,
        "    if claim.profile is not None and claim.profile != facts.profile:\n",
        "    if False:\n",
        (TERMS,),
    ),
    Guard(
        "a request is signed by its own key",
        "identity of a device",
        "whoever shows another's public key",
        AUTHORITY,
        "        if not request.is_signature_valid:\n",
        "        if False:\n",
        (NOT_OURS_TO_SIGN, f"{PROFILES}::test_a_request_signed_by_another_key_is_refused"),
    ),
    Guard(
        "kinds of keys",
        "identity of a device",
        "a request with a weak key",
        AUTHORITY,
        "        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):\n",
        "        if False:\n",
        (NOT_OURS_TO_SIGN, f"{PROFILES}::test_a_key_of_another_kind_is_not_certified"),
    ),
    Guard(
        "a device certificate is no authority",
        "identity of every device",
        "a stolen device key",
        "fleet_server/enrolment/profiles_x509.py",
        "    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)\n",
        "    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)\n",
        (
            f"{ENROLMENT}::test_a_claim_lets_a_board_in",
            f"{PROFILES}::test_every_certificate_says_what_it_is_for_and_nothing_more",
        ),
    ),
    Guard(
        "a device certificate is no server's",
        "boards, which would believe it",
        "a stolen device key",
        "fleet_server/enrolment/profiles_x509.py",
        "    return builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)\n",
        "    return builder\n",
        (
            f"{PROFILES}::test_every_certificate_says_what_it_is_for_and_nothing_more",
            f"{PROFILES}::test_two_verifiers_take_them_for_their_purpose_only",
        ),
    ),
    Guard(
        "a key is one device's",
        "identity of a device",
        "a stolen device key",
        "fleet_server/enrolment/accepting.py",
        "    if issuing.owner_of(session, checked.key_sha256) is not None:\n",
        "    if False:\n",
        (f"{ENROLMENT}::test_a_stolen_key_cannot_become_another_device",),
    ),
    Guard(
        "a device renews its own key alone",
        "identity of a device",
        "a stolen device key",
        "fleet_server/enrolment/renewing.py",
        "        if had.device_id != device_id:\n",
        "        if False:\n",
        (f"{ENROLMENT}::test_a_stolen_key_cannot_become_another_device",),
    ),
    Guard(
        "revocation, read per request",
        "all that a device may do",
        "a stolen device",
        CERTIFICATES,
        "    if revoked_s is not None and revoked_s <= now_s:\n",
        "    if False:\n",
        (
            f"{ENROLMENT}::test_revocation_ends_every_certificate",
            f"{ENROLMENT}::test_the_routes_of_a_life",
        ),
    ),
    Guard(
        "a certificate is the device's that it names",
        "identity of a device",
        "a certificate with another name",
        CERTIFICATES,
        "    if owner != device_id:\n",
        "    if False:\n",
        (EACH_REASON,),
    ),
    Guard(
        "end of a certificate",
        "all that a device may do",
        "an old card from a drawer",
        CERTIFICATES,
        "    if not_after_s < now_s:\n",
        "    if False:\n",
        (EACH_REASON,),
    ),
    Guard(
        "deadline of a handshake",
        "the device door",
        "a stranger who says nothing",
        "fleet_server/doors_http.py",
        "HANDSHAKE_S = 5.0\n",
        "HANDSHAKE_S = 5000.0\n",
        (f"{PROCESSES}::test_silent_clients_do_not_close_the_door",),
    ),
    Guard(
        "patience of a door",
        "both doors",
        "a stranger who says half of it",
        "fleet_server/patience_http.py",
        "GRACE_S = 10.0\n",
        "GRACE_S = 10_000.0\n",
        (f"{PROCESSES}::test_half_a_request_does_not_close_the_door",),
    ),
    Guard(
        "a device writes its own topics",
        "telemetry of other devices",
        "a stolen device key",
        BROKER,
        '    lines += [f"pattern write {ROOT}/%u/up/{channel}" for channel in UP_CHANNELS]\n',
        '    lines += [f"pattern write {ROOT}/+/up/{channel}" for channel in UP_CHANNELS]\n',
        (OWN_BRANCH,),
    ),
    Guard(
        "a device reads its own topics",
        "orders to other devices",
        "a stolen device key",
        BROKER,
        '    lines.append(f"pattern read {ROOT}/%u/down/#")\n',
        '    lines.append(f"pattern read {ROOT}/#")\n',
        (OWN_BRANCH,),
    ),
    Guard(
        "client id = certificate",
        "sessions of other devices",
        "a stolen device key",
        BROKER,
        '        "use_username_as_clientid true",\n',
        "",
        (OWN_BRANCH,),
    ),
    Guard(
        "revocation list at the broker",
        "the broker",
        "a stolen device",
        BROKER,
        "        f\"crlfile {pki / 'crl.pem'}\",\n",
        "",
        (f"{PROCESSES}::test_a_revoked_device_is_out_of_the_broker",),
    ),
)
