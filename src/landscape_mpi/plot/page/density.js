// What plotly is told to draw of the Hessian's eigenvalues at a single point; knows nothing of the controls.

// The density, with its standard error over the probes shaded.
function density(surface, view) {
  const { columns, scale, label, valueLabel } = surface.density, { eigenvalues: x } = columns;
  const beyond = scale.log ? scale.low / 1000 : -Infinity; // what a log scale cannot show goes on below its lower end
  const curve = (values, more) => ({
    type: "scatter", mode: "lines", x, y: Array.from(values, (value) => Math.max(value, beyond)), hoverinfo: "skip", line: { width: 0 }, ...more,
  });
  const moved = (sign) => columns.density.map((value, index) => value + sign * columns.stderr[index]);
  const shaded = { name: "standard error", fill: "tonexty", fillcolor: "rgba(59, 125, 216, 0.25)" };
  const band = columns.stderr.some(Number.isFinite) ? [curve(moved(-1), { name: "lower" }), curve(moved(1), shaded)] : [];
  const texts = Array.from(x, (at, index) => densityText(at, columns.density[index], columns.stderr[index]));
  const line = curve(columns.density, { name: "density", line: { color: BLUE, width: 1.5 }, hoverinfo: "text", hovertext: texts });
  const layout = { ...curveLayout(view, label), shapes: [upright(0)] };
  return { traces: [...band, line], layout: { ...layout, yaxis: valueAxis(view, valueLabel, scale) } };
}

function densityText(eigenvalue, share, error) {
  const spread = Number.isFinite(error) ? ` ± ${shown(error)} (standard error)` : "";
  return `eigenvalue ${shown(eigenvalue)}<br>density ${shown(share)}${spread}`;
}
