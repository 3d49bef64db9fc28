// What plotly is told to draw of one surface; knows nothing of the controls.

// A finger scrolls the page over flat plots, and would always have their buttons in its way: those are for mice.
const TOUCH = matchMedia("(pointer: coarse)").matches, NARROW = innerWidth < 700;
const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: TOUCH ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};
const FEW_POINTS = 30, MOST_DOTS = 2500, MOST_HEIGHTS = 5;
const CURVES = ["#3b7dd8", "#d9534f", "#3d9a5b", "#d98e2b", "#8d63b8", "#2f9fb3", "#a06a5c", "#cf5b97"];
const BLUE = CURVES[0], RED = CURVES[1];
const MARK = "#ff3d7f";

// Plotly reads some HTML in texts; what comes from files is shown as it is.
function literal(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["paper", "ink", "quiet", "rule", "gap"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

const kept = new Map();

// The same arrays again for the same question: plotly redraws only what is another object.
function remembered(key, make) {
  const name = JSON.stringify(key);
  if (!kept.has(name)) kept.set(name, make());
  return kept.get(name);
}

function heightsOf(surface, view) {
  const { metric, scale, fill } = view, key = ["heights", surface.number, surface.layer, metric, scale, fill];
  return remembered(key, () => {
    const values = valuesOf(surface, metric, fill);
    return rowsOf(surface, (index) => heightOf(scale, values[index]));
  });
}

function hoverOf(surface, view) {
  return remembered(["hover", surface.number, surface.layer, view.metric], () =>
    rowsOf(surface, (index) => literal(pointLines(surface, view.metric, index).join("\n")).replaceAll("\n", "<br>")));
}

function baseLayout(view) {
  const { paper, ink, rule } = view.theme;
  return {
    paper_bgcolor: paper, plot_bgcolor: paper, showlegend: false, dragmode: TOUCH ? false : "zoom",
    font: { family: "system-ui, sans-serif", size: 12, color: ink },
    hoverlabel: { align: "left", bgcolor: paper, bordercolor: rule, font: { color: ink } },
  };
}

function axisStyle(view, text) {
  const { rule, quiet } = view.theme;
  return { title: { text: literal(text) }, gridcolor: rule, zerolinecolor: rule, linecolor: quiet, color: view.theme.ink };
}

// --- the surface in three dimensions ---

function relief(surface, view) {
  const heights = heightsOf(surface, view), [cmin, cmax] = heightsEnds(view.scale);
  const body = {
    type: "surface", name: "surface", x: surface.alpha, y: surface.beta, z: heights,
    cmin, cmax, colorscale: "Viridis", showscale: false, hoverinfo: "text", hovertext: hoverOf(surface, view),
    lighting: { ambient: 0.75, diffuse: 0.6, specular: 0.06, roughness: 0.9 },
    contours: { x: { highlight: false }, y: { highlight: false }, z: { highlight: false } },
  };
  const traces = [body, slices3d(surface, view, heights), ...paths3d(surface, view), spots3d(surface, view, heights)];
  return { traces, layout: reliefLayout(view) };
}

function reliefLayout(view) {
  const size = NARROW ? 10 : 12;
  const axis = (text) => ({
    ...axisStyle(view, text), title: { text: literal(text), font: { size } }, tickfont: { size }, showbackground: false, showspikes: false,
  });
  const height = { ...axis(""), range: heightsEnds(view.scale), ...ticksOf(view.scale, MOST_HEIGHTS) };
  const scene = {
    xaxis: axis("α"), yaxis: axis("β"), zaxis: height, camera: view.camera,
    dragmode: "turntable", aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.75 },
  };
  return { ...baseLayout(view), margin: { l: 0, r: 0, t: 0, b: 0 }, scene, annotations: [heightLabel(view, size)] };
}

// What the height is, in a corner: beside its axis, which is short from above, it would lie over the numbers.
function heightLabel(view, size) {
  const corner = { xref: "paper", yref: "paper", x: 0, y: 0, xanchor: "left", yanchor: "bottom", showarrow: false };
  return { ...corner, text: literal(`height: ${view.heightLabel}`), font: { size, color: view.theme.ink } };
}

// All of them say what is there: what plotly finds near the pointer and has nothing to say of hides the surface from it.
function line3d(name, x, y, z, hovertext, more = {}) {
  return { type: "scatter3d", mode: "lines", name, x, y, z, line: { color: MARK, width: 5 }, hoverinfo: "text", hovertext, ...more };
}

// Both slices through the point, as one curve with a gap.
function slices3d(surface, view, heights) {
  const point = gridPoint(surface, view.place), column = heights.map((row) => row[point.column]);
  const across = Array.from(surface.alpha, () => point.beta), along = Array.from(surface.beta, () => point.alpha);
  const texts = hoverOf(surface, view), z = [...heights[point.row], null, ...column];
  const hovertext = [...texts[point.row], "", ...texts.map((row) => row[point.column])];
  return line3d("slices", [...surface.alpha, null, ...along], [...across, null, ...surface.beta], z, hovertext);
}

// The point, and theta* at (0, 0).
function spots3d(surface, view, heights) {
  const point = gridPoint(surface, view.place), values = valuesOf(surface, view.metric, view.fill), up = above(view.scale);
  const trained = surface.isAtZero ? heightOf(view.scale, heightAt(surface, values, 0, 0)) : null;
  const marker = { symbol: ["diamond-open", "circle"], color: [MARK, "#ffffff"], size: [12, 5], opacity: 1, line: { color: "#000000", width: 1 } };
  const hovertext = [hoverOf(surface, view)[point.row][point.column], "θ* at α = 0, β = 0"];
  return line3d("spots", [point.alpha, 0], [point.beta, 0], [up(heights[point.row][point.column]), up(trained)], hovertext, { mode: "markers", marker });
}

// Marks stand a little above the surface, which would hide half of each.
function above(scale) {
  const [low, high] = heightsEnds(scale), lift = 0.015 * (high - low);
  return (height) => (height === null ? null : height + lift);
}

// The paths of training runs lie on the surface, below or above the losses that their checkpoints had themselves.
function paths3d(surface, view) {
  if (!surface.runs.length) return [];
  const values = valuesOf(surface, view.metric, view.fill), up = above(view.scale);
  const heightThere = (alpha, beta) => up(heightOf(view.scale, heightAt(surface, values, alpha, beta)));
  const paths = surface.runs.map((run) => {
    const { alpha, beta } = run.columns, heights = Array.from(alpha, (each, step) => heightThere(each, beta[step]));
    const more = { mode: "lines+markers", line: { color: run.colour, width: 5 }, marker: { color: run.colour, size: 2 } };
    return line3d("trajectory", alpha, beta, heights, pathTexts(run), more);
  });
  const { x, y, texts, marker } = stopsOf(surface, SYMBOLS_3D), z = x.map((alpha, step) => heightThere(alpha, y[step]));
  return [...paths, line3d("stops", x, y, z, texts, { mode: "markers", marker })];
}

// How much larger than its radius, in points, plotly's size of a symbol is. In three dimensions what lies on one spot is
// seen through circles and squares.
const SYMBOLS = { circle: ["circle", 3.2], square: ["square", 2.26], diamond: ["diamond", 2.46] };
const SYMBOLS_3D = { circle: ["circle-open", 1.9], square: ["square-open", 1.9], diamond: ["diamond", 1.5] };

// Where runs begin and end and the checkpoints at which their learning rates drop, those below others first.
function stopsOf(surface, symbols) {
  const stops = surface.runs.flatMap((run) => {
    const texts = pathTexts(run);
    return run.stops.map((stop) => ({ ...stop, run, text: texts[stop.at] }));
  });
  stops.sort((one, other) => other.below - one.below);
  const among = (key) => stops.map(({ run, at }) => run.columns[key][at]), colours = stops.map(({ run }) => run.colour);
  const shapes = stops.map(({ symbol }) => symbols[symbol]), open = (index) => shapes[index][0].endsWith("-open");
  return {
    x: among("alpha"), y: among("beta"), texts: stops.map(({ text }) => text),
    marker: {
      symbol: shapes.map(([name]) => name), size: stops.map(({ radius }, index) => shapes[index][1] * radius), opacity: 1,
      color: stops.map(({ face }, index) => (open(index) ? colours[index] : face)), line: { color: colours, width: 1 },
    },
  };
}

function pathTexts({ name, columns }) {
  const { alpha, beta, residual, epoch, loss } = columns;
  return Array.from(epoch, (each, step) => [
    `${name && `${literal(name)}, `}epoch ${shown(each)}`, `α = ${shown(alpha[step])}, β = ${shown(beta[step])}`,
    ...known("training loss there", loss[step]), ...known("distance from the plane", residual[step]),
  ].join("<br>"));
}

function known(words, value) {
  return Number.isNaN(value) ? [] : [`${words}: ${shown(value)}`];
}

// --- contours ---

function contours(surface, view) {
  const [zmin, zmax] = heightsEnds(view.scale);
  const body = {
    type: "contour", name: "contours", x: surface.alpha, y: surface.beta, z: heightsOf(surface, view),
    zmin, zmax, zauto: false, colorscale: "Viridis", connectgaps: false, autocontour: false,
    contours: { coloring: "heatmap", showlabels: !view.scale.log, ...levelsOf(view.scale) },
    line: { width: 0.7, color: "rgba(0, 0, 0, 0.5)" }, hoverinfo: "text", hovertext: hoverOf(surface, view),
    colorbar: { title: { text: literal(view.heightLabel), side: "right" }, thickness: 12, outlinewidth: 0, ...ticksOf(view.scale) },
  };
  return { traces: [body, ...paths2d(surface), ...marks(surface, view)], layout: contourLayout(surface, view) };
}

function contourLayout(surface, view) {
  const point = gridPoint(surface, view.place), extent = (axis) => [Math.min(...axis), Math.max(...axis)];
  const [left, right] = extent(surface.alpha), [bottom, top] = extent(surface.beta);
  const ratio = (right - left) / (top - bottom);
  const equal = ratio >= 0.5 && ratio <= 2 ? { scaleanchor: "x", constrain: "domain" } : {};
  const cross = { type: "line", line: { color: MARK, width: 1, dash: "dot" } };
  return {
    ...baseLayout(view), plot_bgcolor: view.theme.gap, margin: { l: 55, r: 10, t: 30, b: 45 }, uirevision: "zoom",
    xaxis: { ...axisStyle(view, surface.alphaLabel), range: [left, right], showgrid: false, zeroline: false, constrain: "domain", constraintoward: "right" },
    yaxis: { ...axisStyle(view, surface.betaLabel), range: [bottom, top], showgrid: false, zeroline: false, ...equal },
    shapes: [
      { ...cross, x0: left, x1: right, y0: point.beta, y1: point.beta },
      { ...cross, x0: point.alpha, x1: point.alpha, y0: bottom, y1: top },
    ],
  };
}

function paths2d(surface) {
  if (!surface.runs.length) return [];
  const { x, y, marker } = stopsOf(surface, SYMBOLS), trace = { type: "scatter", hoverinfo: "skip" };
  const paths = surface.runs.map((run) => ({ x: run.columns.alpha, y: run.columns.beta, run }));
  return [
    ...paths.map(({ run: _, ...places }) => ({ ...trace, mode: "lines", name: "halo", ...places, line: { color: "#ffffff", width: 4 } })),
    ...paths.map(({ run, ...places }) => ({
      ...trace, mode: "lines+markers", name: "trajectory", ...places, line: { color: run.colour, width: 1.5 },
      marker: { color: run.colour, size: 4 }, hoverinfo: "text", hovertext: pathTexts(run),
    })),
    { ...trace, mode: "markers", name: "stops", x, y, marker },
  ];
}

function marks(surface, view) {
  const point = gridPoint(surface, view.place), dark = { color: "#000000", width: 1 };
  const spots = (name, x, y, marker) => ({ type: "scatter", mode: "markers", name, x, y, marker, hoverinfo: "skip", cliponaxis: false });
  return [
    ...ofStatus(surface, DONE, surface.filled ? MOST_DOTS : 0, "computed", { color: "rgba(0, 0, 0, 0.55)", size: 3 }, spots),
    ...ofStatus(surface, FAILED, Infinity, "failed", { color: RED, size: 8, symbol: "x" }, spots),
    spots("point", [point.alpha], [point.beta], { color: MARK, size: 20, symbol: "diamond-open", line: { width: 2.5 } }),
    ...(surface.isAtZero ? [0] : []).map(() => spots("theta", [0], [0], { color: "#ffffff", size: 11, symbol: "star", line: dark })),
  ];
}

function ofStatus(surface, status, most, name, marker, spots) {
  const columns = surface.alpha.length, found = [...surface.status.keys()].filter((index) => surface.status[index] === status);
  if (!found.length || found.length > most) return [];
  const x = found.map((index) => surface.alpha[index % columns]), y = found.map((index) => surface.beta[Math.floor(index / columns)]);
  return [spots(name, x, y, marker)];
}
