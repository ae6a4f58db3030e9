"use strict";
const scheme = matchMedia("(prefers-color-scheme: dark)");
const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
let charts = [];

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// The figure's own layout in the colours of the page; on a narrow screen its colour bar lies below.
function themed(figure, width) {
  const layout = structuredClone(figure.layout);
  const lines = { gridcolor: color("--grid"), zerolinecolor: color("--grid"), linecolor: color("--line") };
  for (const name of Object.keys(layout)) {
    if (/^[xy]axis/.test(name)) Object.assign(layout[name], lines);
  }
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = { color: color("--ink"), family: getComputedStyle(document.body).fontFamily, size: 12 };
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: color("--shade"), bordercolor: color("--line"), font: { color: color("--ink") } };
  delete layout.title;  // stands above, where it can be wrapped
  layout.margin.t = 16;
  if (width < 560) {
    layout.margin = { ...layout.margin, l: 8, r: 8 };
    const names = layout.yaxis.ticktext ?? [];
    layout.yaxis.ticktext = names.map((name) => name.length < 17 || name.includes("&") ? name : `${name.slice(0, 8)}…${name.slice(-7)}`);
  }
  return layout;
}

function narrowed(data, width) {
  const traces = structuredClone(data);
  for (const trace of traces) {
    if (trace.colorbar && width < 560) {
      Object.assign(trace.colorbar, { orientation: "h", y: 0, yref: "container", yanchor: "bottom", len: 1 });
    }
  }
  return traces;
}

function draw() {
  for (const div of charts) Plotly.purge(div);
  charts = [...document.querySelectorAll(".chart")];
  for (const div of charts) {
    div.figure = JSON.parse(div.parentElement.querySelector("script").textContent);
    const width = div.clientWidth;
    Plotly.newPlot(div, narrowed(div.figure.data, width), themed(div.figure, width), settings);
  }
}
draw();
scheme.addEventListener("change", () => {
  for (const div of charts) Plotly.relayout(div, themed(div.figure, div.clientWidth));
});

const tip = document.getElementById("tip");
function show(event) {
  const node = event.target.closest("[data-tip]");
  tip.hidden = !node;
  if (!node) return;
  tip.textContent = node.dataset.tip;
  const box = node.getBoundingClientRect();
  const left = Math.min(box.left + 24, innerWidth - tip.offsetWidth - 8);
  const below = box.bottom + 4 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? box.bottom + 4 : box.top - tip.offsetHeight - 4}px`;
}
document.addEventListener("pointerover", show);
document.addEventListener("focusin", show);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

for (const button of document.querySelectorAll("[data-unfold]")) {
  button.addEventListener("click", () => {
    const folds = [...button.closest(".network").querySelectorAll("details")];
    const open = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = open;
    button.textContent = open ? "fold all" : "unfold all";
  });
}

// The page of a sweep that runs: what its server has now takes the place of what is shown.
const live = document.getElementById("live");
let shown = null;
async function renew() {
  try {
    const answer = await fetch("main");
    const text = await answer.text();
    if (answer.ok && text !== shown) {
      document.querySelector("main").innerHTML = shown = text;
      draw();
    }
    live.textContent = `while it runs, at this machine alone; ${new Date().toLocaleTimeString()}`;
    setTimeout(renew, 2000);
  } catch {
    live.textContent = "the sweep has ended, or was stopped: this is what it came to";
  }
}
if (live) setTimeout(renew, 1000);
