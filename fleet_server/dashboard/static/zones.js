// Draws a zone with clicks and writes it into the settings as JSON: nothing is sent before somebody saves. Without scripts the
// same is typed by hand.
(() => {
  const board = document.getElementById("board"), text = document.querySelector("textarea[name=content]");
  if (!board || !text) return;
  const [zone, line, dots] = ["polygon", "polyline", "g"].map((kind) => board.querySelector(kind + ".drawing"));
  const said = document.getElementById("drawn-said"), field = (id) => document.getElementById(id).value.trim();
  const WIDTH = 320, HEIGHT = 180;
  let points = [];

  function show() {
    const written = points.map(([x, y]) => `${x * WIDTH},${y * HEIGHT}`).join(" ");
    zone.setAttribute("points", points.length > 2 ? written : "");
    line.setAttribute("points", points.length < 3 ? written : "");
    dots.replaceChildren(...points.map(([x, y]) => {
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      for (const [name, value] of [["cx", x * WIDTH], ["cy", y * HEIGHT], ["r", 3]]) dot.setAttribute(name, value);
      return dot;
    }));
    said.textContent = points.length ? `${points.length} points` : "";
  }
  const share = (value, size) => Math.round(Math.min(1, Math.max(0, value / size)) * 1000) / 1000;
  board.addEventListener("click", (event) => {
    const place = board.getBoundingClientRect();
    points.push([share(event.clientX - place.left, place.width), share(event.clientY - place.top, place.height)]);
    show();
  });
  document.getElementById("drawn-back").addEventListener("click", () => { points.pop(); show(); });
  document.getElementById("drawn-put").addEventListener("click", () => {
    const name = field("drawn-name"), camera = field("drawn-camera");
    if (points.length < 3 || !name) { said.textContent = "a zone needs a name and three points"; return; }
    let settings;
    try { settings = JSON.parse(text.value.trim() || "{}"); } catch { said.textContent = "the settings below are not JSON"; return; }
    const cameras = camera ? (settings.cameras ??= {}) : settings;
    const of = (cameras[camera || "every_camera"] ??= {});
    const zones = (of.zones ??= []), there = zones.findIndex((one) => one.name === name);
    if (there < 0) zones.push({ name, polygon: points });
    else zones[there].polygon = points;
    text.value = JSON.stringify(settings, null, 2) + "\n";
    points = [];
    show();
    said.textContent = `${name} stands in the settings now; save them`;
  });
  document.getElementById("draw").hidden = false;
})();
