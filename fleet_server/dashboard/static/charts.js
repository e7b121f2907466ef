// Draws what stands in the tables below the charts; colours come from the page's own variables, times are UTC as in the tables.
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";
  const clock = (at) => new Date(at * 1000).toISOString().slice(11, 16);
  function draw() {
    for (const box of document.querySelectorAll("[data-series]")) {
      const series = JSON.parse(box.dataset.series);
      if (box.childElementCount && box.drawn === box.dataset.series) continue;
      box.drawn = box.dataset.series;
      box.replaceChildren();
      const axis = { stroke: css("--calm"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
      new uPlot({
        width: box.clientWidth || 420, height: 150, legend: { show: false }, cursor: { show: false },
        axes: [{ ...axis, values: (_, ticks) => ticks.map(clock) }, axis],
        series: [{}, { stroke: css("--busy"), width: 2, points: { show: false } }],
      }, [series.at_s, series.values], box);
    }
  }
  draw();
  document.addEventListener("htmx:after:swap", draw);
  addEventListener("resize", () => { for (const box of document.querySelectorAll("[data-series]")) box.drawn = ""; draw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const box of document.querySelectorAll("[data-series]")) box.drawn = "";
    draw();
  });
})();
