"""Guards of the operator door: accounts, roles, groups, browsers, the audit, and what the server calls."""

from tests.guards.guard import Guard

ACCESS = "fleet_server/accounts/access.py"
HEADERS = "fleet_server/headers_http.py"
OUTGOING = "fleet_server/outgoing_http.py"
GROUPS = "tests/fleet_server/core/test_group_limits.py"
BROWSERS = "tests/fleet_server/core/test_hygiene_headers.py"
CALLS = "tests/fleet_server/core/test_hygiene_outgoing.py"
ALERTS = "tests/fleet_server/alerts/test_alerts.py"
SKELETON = "tests/fleet_server/core/test_skeleton.py"

GUARDS = (
    Guard(
        "a route says who may use it",
        "every route",
        "a route that somebody forgot to guard",
        ACCESS,
        "    scope = scope_of(current_app.view_functions[request.endpoint])\n",
        '    scope = scope_of(current_app.view_functions[request.endpoint]) or ""\n',
        (f"{SKELETON}::test_a_route_that_names_no_scope_is_refused",),
    ),
    Guard(
        "scopes of a role",
        "what others may change",
        "a viewer",
        ACCESS,
        "    if scope not in operator.scopes:\n",
        "    if False:\n",
        (
            "tests/fleet_server/releases/test_releases.py::test_only_releasers_publish_and_only_admins_touch_the_root",
            "tests/fleet_server/enrolment/test_enrolment.py::test_the_routes_of_a_life",
        ),
    ),
    Guard(
        "groups of an account",
        "devices of other groups",
        "somebody limited to groups",
        ACCESS,
        "    if operator.groups is not None:\n",
        "    if False:\n",
        (f"{GROUPS}::test_a_foreign_id_answers_as_an_unknown_one_and_nothing_of_the_south_changes",),
    ),
    Guard(
        "a route that forgets to filter",
        "devices of other groups",
        "somebody limited to groups",
        ACCESS,
        '    if scope_of(view) and reach_of(view) == "filtered" and not reach_was_asked():\n',
        "    if False:\n",
        (f"{GROUPS}::test_a_route_that_forgets_gives_nothing_away",),
    ),
    Guard(
        "CSRF token of a session",
        "what a signed-in browser may do",
        "a page elsewhere",
        ACCESS,
        '    if operator.kind == "session" and request.method not in _SAFE:\n',
        "    if False:\n",
        (f"{BROWSERS}::test_without_the_token_a_session_changes_nothing",),
    ),
    Guard(
        "a form signs nobody in from elsewhere",
        "whose account a browser is in",
        "a page elsewhere",
        ACCESS,
        '        if request.method not in _SAFE and request.mimetype != "application/json":\n',
        "        if False:\n",
        (f"{BROWSERS}::test_nobody_is_signed_in_as_somebody_else_by_a_page_elsewhere",),
    ),
    Guard(
        "Origin of a request",
        "what a signed-in browser may do",
        "a page elsewhere",
        HEADERS,
        '    if origin is not None and _host_of(origin) not in {*names, _host_of("//" + request.headers.get("Host", ""))}:\n',
        "    if False:\n",
        (f"{BROWSERS}::test_a_page_elsewhere_changes_nothing_even_with_the_right_token",),
    ),
    Guard(
        "the API is not embedded",
        "what the API says",
        "a page elsewhere",
        HEADERS,
        '        if request.headers.get("Sec-Fetch-Dest", "") in _LOADED:\n',
        "        if False:\n",
        (f"{BROWSERS}::test_our_data_is_not_embedded_in_other_pages",),
    ),
    Guard(
        "names of the server",
        "what a signed-in browser may do",
        "a name that was pointed at us (DNS rebinding)",
        HEADERS,
        "        _known_host(names, by_address)\n",
        "        pass\n",
        (
            f"{BROWSERS}::test_a_name_that_was_pointed_at_us_is_not_ours",
            f"{SKELETON}::test_a_foreign_host_name_is_refused",
        ),
    ),
    Guard(
        "nobody goes round the proxy",
        "addresses in lock-outs and audit",
        "whoever reaches the port beside the proxy",
        HEADERS,
        "            environ[_BYPASSED] = True\n",
        "            pass\n",
        (f"{BROWSERS}::test_who_goes_round_the_proxy_is_refused_and_only_its_word_about_clients_counts",),
    ),
    Guard(
        "content security policy",
        "an operator's browser",
        "a name with a script in it",
        HEADERS,
        '        given.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)',
        "        pass",
        (
            f"{BROWSERS}::test_every_answer_of_the_operator_door_carries_every_header",
            f"{SKELETON}::test_errors_are_problems_without_a_stack",
        ),
    ),
    Guard(
        "nosniff",
        "an operator's browser",
        "a picture that is a page",
        HEADERS,
        '    response.headers["X-Content-Type-Options"] = "nosniff"\n',
        "",
        (
            f"{BROWSERS}::test_every_answer_of_the_operator_door_carries_every_header",
            f"{BROWSERS}::test_every_answer_of_the_device_door_carries_its_headers",
        ),
    ),
    Guard(
        "HSTS",
        "sessions on the way",
        "the line",
        HEADERS,
        "        if settings.operator_over_tls:\n",
        "        if False:\n",
        (f"{BROWSERS}::test_over_tls_cookies_are_secure_and_hsts_is_said",),
    ),
    Guard(
        "public addresses alone are called",
        "the network around the server",
        "whoever may type an address",
        OUTGOING,
        "    if public or rule.private or host.lower() in rule.hosts:\n",
        "    if True:\n",
        (
            f"{CALLS}::test_of_ipv4_only_public_addresses_are_taken",
            f"{ALERTS}::test_addresses_that_lead_into_our_own_network_are_refused",
        ),
    ),
    Guard(
        "addresses that hide others",
        "the network around the server",
        "whoever may type an address",
        OUTGOING,
        "    if _within(parsed, _TUNNELS) and not parsed.is_loopback:\n",
        "    if False:\n",
        (f"{CALLS}::test_no_writing_of_an_inside_address_is_taken",),
    ),
    Guard(
        "a name is judged by where it leads",
        "the network around the server",
        "a name that changes its mind (DNS rebinding)",
        OUTGOING,
        "    if refused or not addresses:\n",
        "    if not addresses:\n",
        (
            f"{CALLS}::test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_judged",
            f"{ALERTS}::test_a_name_that_resolves_into_our_network_is_refused_and_one_that_does_goes_to_that_very_address",
        ),
    ),
    Guard(
        "an answer is short",
        "memory of the server",
        "whoever is called",
        OUTGOING,
        "            if self._left_bytes < 0:\n",
        "            if False:\n",
        (f"{CALLS}::test_an_answer_is_short_and_not_packed",),
    ),
)
