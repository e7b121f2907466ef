// Keeps the page fresh. An event stream says what changed; only a page that shows it is fetched anew and morphed, so that
// focus, scroll and open details stay. Time passes without any change too (a device falls silent), so it looks every 30 s anyway.
(() => {
  const button = document.getElementById("pause");
  const word = document.getElementById("fresh");
  if (!document.getElementById("live") || !button || !window.EventSource) return;
  const EVERY_MS = 30000, WITHOUT_STREAM_MS = 15000, AT_MOST_MS = 2000;
  const topics = new Set((document.getElementById("live").dataset.topics || "").split(" "));
  let paused = false, due = false, busy = false, timer = 0, last = 0;

  function typing() {
    const on = document.activeElement;
    return on && document.getElementById("live").contains(on) && on.matches("input, select, textarea");
  }
  let status = 0; // of the last look; 0: no answer. What is no page of ours never replaces the one that is there.
  document.addEventListener("htmx:before:response", (event) => {
    const response = event.detail.ctx.response;
    status = response.status;
    if (status !== 200) event.preventDefault();
    if (response.raw.redirected) location.reload(); // signed out meanwhile: the sign-in page, whole
  });
  async function refresh() {
    if (paused || busy || document.hidden || typing()) { due = true; return; }
    busy = true;
    due = false;
    const open = [...document.querySelectorAll("#live details[open][id]")].map((one) => one.id);
    status = 0;
    await htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerMorph" });
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (status === 200) word.textContent = "as of " + new Date().toISOString().slice(0, 19).replace("T", " ") + " UTC";
    else word.textContent = (status ? "the server answered " + status : "the server does not answer") + "; this may be old";
    last = Date.now();
    busy = false;
    if (due) soon();
  }
  function soon() {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(200, last + AT_MOST_MS - Date.now()));
  }

  // A browser gives one server six connections, and a stream holds one for good: of all tabs only one listens and tells the others.
  // Where tabs cannot agree (plain HTTP on another machine has no locks), each listens only while somebody looks at it.
  const channel = window.BroadcastChannel && navigator.locks ? new BroadcastChannel("rookery-live") : null;
  let stream = null, connected = false, known = false;

  function heard(said) {
    if (said.topics) {
      if (said.topics.some((topic) => topics.has(topic))) soon();
      return;
    }
    if (said.connected && known && (!connected || said.anew)) soon(); // for a moment nobody listened: look what was missed
    connected = said.connected;
    known = true;
    if (connected) document.documentElement.dataset.live = "yes"; // also what a test waits for
    else delete document.documentElement.dataset.live;
  }
  function tell(said) {
    heard(said);
    channel?.postMessage(said);
  }
  function listen() {
    stream?.close();
    stream = new EventSource("/api/v1/live");
    stream.addEventListener("change", (event) => tell({ topics: JSON.parse(event.data).topics || [] }));
    stream.onopen = () => tell({ connected: true, anew: true });
    stream.onerror = () => tell({ connected: false });
  }
  if (channel) {
    channel.onmessage = (event) => {
      if (!event.data.ask) heard(event.data);
      else if (stream) channel.postMessage({ connected: stream.readyState === EventSource.OPEN });
    };
    channel.postMessage({ ask: true });
    navigator.locks.request("rookery-live", () => new Promise(listen)); // held until this page is left; then the next tab listens
  } else {
    const look = () => {
      if (!document.hidden && !stream) listen();
      if (document.hidden && stream) { stream.close(); stream = null; heard({ connected: false }); }
    };
    document.addEventListener("visibilitychange", look);
    look();
  }
  setInterval(() => {
    if (stream && stream.readyState === EventSource.CLOSED) listen(); // refused once (too many streams): ask again
    if (Date.now() - last >= (connected ? EVERY_MS : WITHOUT_STREAM_MS)) refresh();
  }, 5000);
  last = Date.now();
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && due) soon(); });
  document.addEventListener("focusout", () => { if (due) soon(); });
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Resume live updates" : "Pause live updates";
    if (!paused) soon();
  });
})();
