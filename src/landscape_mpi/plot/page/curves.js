// What plotly is told to draw along a line: slices of planes, and surfaces of one dimension; knows nothing of the controls.

const DASHES = { train: "solid", test: "dash" };

// One curve a surface through the point, along alpha or beta.
function slice(surfaces, view, along) {
  const traces = surfaces.map((surface) => sliceCurve(surface, view, along));
  const point = gridPoint(surfaces[0], view.place), across = along === "alpha" ? "beta" : "alpha";
  const greek = { alpha: "α", beta: "β" };
  const [{ gamma, layer }] = surfaces, plane = gamma ? `, γ = ${shown(gamma[layer])}` : "";
  const title = `${greek[along]}, at ${greek[across]} = ${shown(point[across])}${plane}`;
  const floors = surfaces.flatMap((surface) => floorBand(surface, view.metric, view.scale));
  const layout = { ...curveLayout(view, title), shapes: [...floors, upright(point[along])] };
  return { traces, layout: { ...layout, yaxis: valueAxis(view, view.label, view.scale) } };
}

function sliceCurve(surface, view, along) {
  const point = gridPoint(surface, view.place), columns = surface.alpha.length;
  const index = (step) => (along === "alpha" ? point.row * columns + step : step * columns + point.column);
  return curve(surface, view, view.metric, Array.from(surface[along], (_, step) => index(step)), surface[along], {
    name: literal(surface.title), colour: colourOf(surface),
  });
}

function colourOf(surface) {
  return CURVES[surface.number % CURVES.length];
}

function curve(surface, view, metric, indices, x, { name, colour, dash, ...more }) {
  const values = valuesOf(surface, metric, view.fill), bars = surface.values[`${metric}_bar`];
  const few = indices.length <= FEW_POINTS || surface.filled;
  return {
    type: "scatter", mode: few ? "lines+markers" : "lines", name, x, connectgaps: false,
    y: indices.map((index) => (Number.isFinite(values[index]) ? lifted(view.scale, values[index]) : null)),
    line: { color: colour, width: 2, dash }, marker: { size: indices.map((index) => (surface.status[index] === DONE ? 5 : 0)) }, hoverinfo: "text",
    hovertext: indices.map((index) => literal(pointLines(surface, metric, index).join("\n")).replaceAll("\n", "<br>")),
    ...(bars ? { error_y: { type: "data", array: indices.map((index) => bars[index]), thickness: 1, width: 2 } } : {}),
    ...more,
  };
}

function lifted(scale, value) {
  return scale.floor !== null && value <= 0 ? scale.floor : value;
}

function curveLayout(view, title) {
  return { ...baseLayout(view), margin: { l: 60, r: 15, t: 30, b: 45 }, xaxis: axisStyle(view, title) };
}

function legend(visible) {
  return { showlegend: visible, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 } };
}

function upright(place) {
  return { type: "line", x0: place, x1: place, yref: "paper", y0: 0, y1: 1, line: { color: MARK, width: 1, dash: "dot" } };
}

// Where rounding decides: a grey band about f(0, 0), twice as wide as the precision floor.
function floorBand(surface, metric, scale) {
  if (!surface.floors[metric]) return [];
  const [low, high] = surface.floors[metric], y0 = scale.log ? Math.max(low, scale.low) : low;
  const grey = { fillcolor: "rgba(128, 128, 128, 0.25)", line: { width: 0 }, layer: "below" };
  return [{ type: "rect", name: "floor", xref: "paper", x0: 0, x1: 1, y0, y1: high, ...grey }];
}

function valueAxis(view, label, scale) {
  const { low, high, log } = scale, range = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const extra = 0.04 * (range[1] - range[0]);
  const ticks = log ? logTicks(low, high) : [], names = ticks.map((tick) => shown(tick));
  const own = log ? { type: "log", tickmode: "array", tickvals: ticks, ticktext: names } : {};
  return { ...axisStyle(view, label), ...own, automargin: true, range: [range[0] - extra, range[1] + extra] };
}

// A surface of one dimension: the metric of every split on the left, with losses the accuracies on the right.
function line(surface, view) {
  const left = alike(view.metric), right = METRICS.get(view.metric).general === "loss" ? ofGeneral("accuracy") : [];
  const indices = [...surface.alpha.keys()], point = gridPoint(surface, view.place);
  const draw = (metric, more) => curve(surface, view, metric.name, indices, surface.alpha, {
    name: literal(metric.words), dash: DASHES[metric.split] ?? (metric.split ? "dot" : "solid"), ...more,
  });
  const traces = [...left.map((metric) => draw(metric, { colour: BLUE })), ...right.map((metric) => draw(metric, { colour: RED, yaxis: "y2" }))];
  const second = { ...axisStyle(view, "accuracy (%)"), color: RED, range: [-4, 104], overlaying: "y", side: "right", showgrid: false, tickmode: "auto" };
  const floors = left.flatMap((metric) => floorBand(surface, metric.name, view.scale));
  const layout = { ...curveLayout(view, surface.alphaLabel), shapes: [...floors, upright(point.alpha)], ...legend(traces.length > 1) };
  layout.yaxis = { ...valueAxis(view, view.generalLabel, view.scale), color: BLUE };
  return { traces, layout: right.length ? { ...layout, yaxis2: second, margin: { ...layout.margin, r: 60 } } : layout };
}

function ofGeneral(general) {
  return PAGE.metrics.filter((metric) => metric.general === general);
}

// The metric in every split.
function alike(metric) {
  return ofGeneral(METRICS.get(metric).general);
}
