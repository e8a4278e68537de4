// The charts of the overview: the last quarter of an hour, then each new point as it comes.
"use strict";
{
  const SECONDS = 900;
  const GAP_SECONDS = 40; // between two points: more than that was not seen
  const COLOURS = 6;
  const DASHES = [[], [6, 3], [2, 3]];
  const HEIGHT = 190;
  const charts = document.querySelector(".charts");
  const points = [];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => (Math.abs(value) < 10 ? Math.round(value * 10) / 10 : Math.round(value)).toLocaleString("en");

  // Only what was ever more than nothing has a line: others would hide those that matter.
  const namesOf = (series) => {
    const most = new Map();
    for (const point of points) {
      for (const [name, value] of Object.entries(point[series])) most.set(name, Math.max(value, most.get(name) ?? 0));
    }
    return [...most].filter(([, value]) => value > 0).map(([name]) => name).sort();
  };

  // Such a point has no line to be seen by.
  const isAlone = (values) => values.some((value, at) => value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null);

  const dataOf = (series, names) => {
    const times = [];
    const values = names.map(() => []);
    let before = null;
    for (const point of points) {
      if (before !== null && point.at - before > GAP_SECONDS) {
        times.push(before + 1);
        for (const line of values) line.push(null);
      }
      times.push(point.at);
      names.forEach((name, at) => values[at].push(point[series][name] ?? null));
      before = point.at;
    }
    return [times, ...values];
  };

  class Chart {
    constructor(place) {
      this.place = place;
      this.series = place.dataset.series;
      this.names = null;
      this.plot = null;
      place.setAttribute("role", "img");
      new ResizeObserver(() => {
        if (this.plot && place.clientWidth) this.plot.setSize({ width: place.clientWidth, height: HEIGHT });
      }).observe(place);
    }

    draw() {
      const names = namesOf(this.series);
      this.describe(names);
      if (names.length === 0) {
        this.forget();
        this.place.textContent = points.length === 0 ? "Nothing was seen yet." : "Nothing in this time.";
        return;
      }
      const data = dataOf(this.series, names);
      if (this.plot && String(names) === String(this.names)) {
        this.plot.setData(data);
        return;
      }
      this.forget();
      this.place.textContent = "";
      this.names = names;
      const clock = (_, ticks) => ticks.map((at) => new Date(at * 1000).toISOString().slice(11, 16));
      const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
      this.plot = new uPlot(
        {
          width: this.place.clientWidth || 300,
          height: HEIGHT,
          cursor: { y: false },
          legend: { live: false },
          scales: { x: { range: () => [Date.now() / 1000 - SECONDS, Date.now() / 1000] }, y: { range: (_, __, max) => [0, max || 1] } },
          axes: [{ ...axis, values: clock }, { ...axis, size: 54, values: (_, ticks) => ticks.map(shown) }],
          series: [
            {},
            ...names.map((name, at) => ({
              label: name,
              stroke: colour(`--chart-${(at % COLOURS) + 1}`),
              dash: DASHES[Math.floor(at / COLOURS) % DASHES.length],
              width: 2,
              points: { show: points.length < 4 || isAlone(data[at + 1]) },
            })),
          ],
        },
        data,
        this.place,
      );
    }

    describe(names) {
      const newest = points.at(-1);
      const now = names.map((name) => `${name} ${shown(newest[this.series][name] ?? 0)}`).join(", ");
      const caption = this.place.parentElement.querySelector("figcaption").textContent;
      this.place.setAttribute("aria-label", now ? `${caption}. Now: ${now}.` : `${caption}: nothing.`);
    }

    forget() {
      this.plot?.destroy();
      this.plot = this.names = null;
    }
  }

  const all = [...charts.querySelectorAll(".chart")].map((place) => new Chart(place));
  const draw = () => all.forEach((chart) => chart.draw());
  const add = (point) => {
    if (points.length && point.at <= points.at(-1).at) return;
    points.push(point);
    while (points[0].at < point.at - SECONDS) points.shift();
  };

  document.addEventListener("console:point", (event) => {
    add(event.detail);
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    all.forEach((chart) => chart.forget());
    draw();
  });
  fetch(charts.dataset.points, { cache: "no-store" })
    .then((answer) => answer.json())
    .then((found) => {
      const since = points.splice(0);
      found.forEach(add);
      since.forEach(add);
    })
    .catch(() => {}) // the next points come by themselves
    .finally(draw);
}
