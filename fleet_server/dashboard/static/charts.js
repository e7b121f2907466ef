// Draws what stands in the tables below the charts; colours come from the page's own variables.
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";
  function draw() {
    for (const box of document.querySelectorAll("[data-series]")) {
      const series = JSON.parse(box.dataset.series);
      if (box.dataset.drawn === box.dataset.series || series.at_s.length < 2) continue;
      box.dataset.drawn = box.dataset.series;
      box.replaceChildren();
      new uPlot({
        width: box.clientWidth || 420, height: 150, legend: { show: false }, cursor: { show: false },
        scales: { x: { time: true } },
        axes: [{ stroke: css("--calm"), grid: { stroke: css("--line") } }, { stroke: css("--calm"), grid: { stroke: css("--line") } }],
        series: [{}, { stroke: css("--busy"), width: 2, points: { show: false } }],
      }, [series.at_s, series.values], box);
    }
  }
  draw();
  document.addEventListener("htmx:after:swap", draw);
})();
