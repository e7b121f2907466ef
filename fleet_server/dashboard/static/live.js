// Keeps the page fresh: one event stream per tab says what changed; only a page that shows it is fetched anew and morphed,
// so that focus, scroll and open details stay. Without the stream (too many tabs) it asks every 15 s instead.
(() => {
  const live = document.getElementById("live");
  const button = document.getElementById("pause");
  const word = document.getElementById("fresh");
  if (!live || !window.EventSource) return;
  const topics = new Set((live.dataset.topics || "").split(" "));
  let paused = false, due = false, busy = false, timer = 0;

  const typing = () => live.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
  async function refresh() {
    if (paused || busy || document.hidden || typing()) { due = true; return; }
    busy = true; due = false;
    try {
      await htmx.ajax("GET", location.pathname + location.search, { target: "#live", select: "#live", swap: "outerMorph" });
      word.textContent = "as of " + new Date().toLocaleTimeString("en-GB");
    } catch (error) {
      word.textContent = "the server does not answer";
    }
    busy = false;
  }
  const soon = () => { clearTimeout(timer); timer = setTimeout(refresh, 250); };
  function poll() { setInterval(refresh, 15000); }

  const stream = new EventSource("/api/v1/live");
  stream.addEventListener("change", (event) => {
    const changed = JSON.parse(event.data).topics || [];
    if (changed.some((topic) => topics.has(topic))) soon();
  });
  let failures = 0;
  stream.onerror = () => { failures += 1; if (failures === 5) { stream.close(); poll(); } };
  stream.onopen = () => { failures = 0; };
  document.addEventListener("visibilitychange", () => { if (!document.hidden && due) soon(); });
  document.addEventListener("focusout", () => { if (due) soon(); });
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Resume live updates" : "Pause live updates";
    if (!paused) refresh();
  });
})();
