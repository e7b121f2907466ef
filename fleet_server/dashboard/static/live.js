// Keeps the page fresh. One event stream per tab says what changed; only a page that shows it is fetched anew and morphed, so that
// focus, scroll and open details stay. Time passes without any change too (a device falls silent), so it looks every 30 s anyway.
(() => {
  const button = document.getElementById("pause");
  const word = document.getElementById("fresh");
  if (!document.getElementById("live") || !button || !window.EventSource) return;
  const EVERY_MS = 30000, WITHOUT_STREAM_MS = 15000, AT_MOST_MS = 2000;
  const topics = new Set((document.getElementById("live").dataset.topics || "").split(" "));
  let paused = false, due = false, busy = false, timer = 0, last = 0, opened = false;

  function typing() {
    const on = document.activeElement;
    return on && document.getElementById("live").contains(on) && on.matches("input, select, textarea");
  }
  async function refresh() {
    if (paused || busy || document.hidden || typing()) { due = true; return; }
    busy = true;
    due = false;
    const open = [...document.querySelectorAll("#live details[open][id]")].map((one) => one.id);
    try {
      await htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerMorph" });
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      word.textContent = "as of " + new Date().toISOString().slice(0, 19).replace("T", " ") + " UTC";
    } catch (error) {
      word.textContent = "the server does not answer; this may be old";
    }
    last = Date.now();
    busy = false;
    if (due) soon();
  }
  function soon() {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(200, last + AT_MOST_MS - Date.now()));
  }

  const stream = new EventSource("/api/v1/live");
  stream.addEventListener("change", (event) => {
    const changed = JSON.parse(event.data).topics || [];
    if (changed.some((topic) => topics.has(topic))) soon();
  });
  stream.onopen = () => {
    document.documentElement.dataset.live = "yes"; // also what a test waits for
    if (opened) soon(); // it was away: something may have been missed
    opened = true;
  };
  stream.onerror = () => { delete document.documentElement.dataset.live; };
  setInterval(() => {
    const every = stream.readyState === EventSource.OPEN ? EVERY_MS : WITHOUT_STREAM_MS;
    if (Date.now() - last >= every) refresh();
  }, 5000);
  last = Date.now();
  addEventListener("pagehide", () => stream.close());
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
