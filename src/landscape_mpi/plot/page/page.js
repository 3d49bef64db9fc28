// The controls and what they do; the state is the only truth, every change draws the page from it anew.

const GREEK = { alpha: "α", beta: "β" };
const DISTANCE = NARROW ? 2.6 : 2.2, DEGREE = Math.PI / 180;
const TURN = -58, TILT = SURFACES.some((surface) => surface.runs.length) ? 60 : 32; // a path is best seen from above
const STEPS = { ArrowLeft: ["alpha", -1], ArrowRight: ["alpha", 1], ArrowDown: ["beta", -1], ArrowUp: ["beta", 1] };

const find = (id) => document.getElementById(id);
const isPoint = Boolean(SURFACES[0].density), isLine = isPoint || SURFACES[0].isLine; // a point is drawn as lines are
const GAMMA = SURFACES[0].gamma && [...SURFACES[0].gamma].sort((one, other) => one - other);
const controls = ["metric", "split", "scale", "low", "high", "turn", "tilt", "alpha", "beta", "gamma", "fill"];
const control = Object.fromEntries(controls.map((id) => [id, find(id)]));
const figures = []; // {div, draw}, one a plot
const dark = matchMedia("(prefers-color-scheme: dark)");

const state = {
  metric: PAGE.start.metric, scale: PAGE.start.scale, low: PAGE.start.low, high: PAGE.start.high, fill: true, gamma: 0,
  place: { alpha: 0, beta: 0 }, camera: cameraAt(TURN, TILT),
};

function cameraAt(turn, tilt) {
  const [around, up] = [turn * DEGREE, tilt * DEGREE], flat = DISTANCE * Math.cos(up);
  return { eye: { x: flat * Math.cos(around), y: flat * Math.sin(around), z: DISTANCE * Math.sin(up) }, center: { x: 0, y: 0, z: -0.16 } };
}

function anglesOf({ eye }) {
  return [Math.atan2(eye.y, eye.x) / DEGREE, Math.atan2(eye.z, Math.hypot(eye.x, eye.y)) / DEGREE];
}

// --- from the state to the page ---

function viewOf() {
  const metric = METRICS.get(state.metric), unit = metric.unit && ` (${metric.unit})`;
  const names = isLine ? alike(state.metric).map((each) => each.name) : [state.metric];
  const arrays = () => SURFACES.flatMap((surface) => names.map((name) => surface.all[name]));
  const scale = scaleOf(remembered(["range", ...names], () => rangeOf(arrays())), metric.unit, state);
  const label = metric.words + unit, above = scale.base ? ` above ${shown(scale.base, 15)}` : "";
  return { ...state, scale, theme: theme(), label, heightLabel: metric.words + above + unit, generalLabel: metric.general + unit };
}

function draw() {
  for (const surface of SURFACES) cut(surface, state.gamma);
  const view = viewOf();
  for (const figure of figures) {
    const { traces, layout } = figure.draw(view);
    Plotly.react(figure.div, traces, layout, CONFIG);
  }
  find("point").textContent = SURFACES.map((surface) => pointText(surface)).join("\n");
  find("note").textContent = notes(view.scale).join(" ");
  showControls(view.scale);
}

function pointText(surface) {
  const lines = pointLines(surface, state.metric, gridPoint(surface, state.place).index);
  return (SURFACES.length > 1 ? `${surface.title}: ` : "") + lines.join(" · ");
}

function notes(scale) {
  return [
    scale.refused && "Range from has to be below Range to: the range of the values is shown.",
    state.scale === "logarithmic" && !scale.log && "A logarithmic scale needs values above 0: a linear one is shown.",
    scale.floor !== null && `Values of 0 are drawn at ${shown(scale.floor)}.`,
    scale.cut && "Values beyond the range are cut off at its ends.",
    !isLine && hasGaps() && "Grey places and holes have no finite result.",
  ].filter(Boolean);
}

function hasGaps() {
  return SURFACES.some((surface) => !valuesOf(surface, state.metric, state.fill).every(Number.isFinite));
}

function showControls(scale) {
  const metric = METRICS.get(state.metric), point = gridPoint(SURFACES[0], state.place);
  control.metric.value = metric.general;
  offer(control.split, alike(state.metric).filter((each) => each.split).map((each) => [each.split, each.splitWords]));
  control.split.value = metric.split ?? "";
  control.split.disabled = !metric.split;
  control.scale.value = state.scale;
  control.fill.checked = state.fill;
  for (const end of ["low", "high"]) control[end].placeholder = shown(scale[end], digitsOf(scale));
  [control.turn.value, control.tilt.value] = anglesOf(state.camera).map(Math.round);
  for (const axis of ["alpha", "beta"]) {
    control[axis].value = axis === "alpha" ? point.column : point.row;
    control[axis].setAttribute("aria-valuetext", `${GREEK[axis]} = ${shown(point[axis])}`);
  }
  if (GAMMA) showGamma();
}

function showGamma() {
  const chosen = nearest(GAMMA, state.gamma), text = `γ = ${shown(GAMMA[chosen])}`;
  control.gamma.value = chosen;
  control.gamma.setAttribute("aria-valuetext", text);
  find("at-gamma").textContent = text;
}

function offer(select, options) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
}

// --- from the user to the state ---

function change(news) {
  Object.assign(state, news);
  draw();
}

function chosenMetric() {
  const choices = ofGeneral(control.metric.value), split = control.split.value;
  return (choices.find((each) => each.split === split) ?? choices[0]).name;
}

function movePoint(axis, step) {
  const [surface] = SURFACES, coordinates = surface[axis], point = gridPoint(surface, state.place);
  const index = (axis === "alpha" ? point.column : point.row) + step;
  if (index >= 0 && index < coordinates.length) change({ place: { ...state.place, [axis]: coordinates[index] } });
}

function onKey(event) {
  const [axis, step] = STEPS[event.key] ?? [];
  if (!axis || (isLine && axis === "beta") || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const coordinates = SURFACES[0][axis];
  movePoint(axis, coordinates[0] <= coordinates[coordinates.length - 1] ? step : -step);
}

function listen() {
  control.metric.addEventListener("change", () => change({ metric: chosenMetric(), low: "", high: "" }));
  control.split.addEventListener("change", () => change({ metric: chosenMetric() }));
  control.scale.addEventListener("change", () => change({ scale: control.scale.value }));
  control.fill.addEventListener("change", () => change({ fill: control.fill.checked }));
  for (const end of ["low", "high"]) control[end].addEventListener("change", () => change({ [end]: control[end].value }));
  for (const axis of ["alpha", "beta"]) {
    control[axis].addEventListener("input", () => change({ place: { ...state.place, [axis]: SURFACES[0][axis][control[axis].value] } }));
  }
  control.gamma.addEventListener("input", () => change({ gamma: GAMMA[control.gamma.value] }));
  for (const angle of ["turn", "tilt"]) {
    control[angle].addEventListener("input", () => look(cameraAt(Number(control.turn.value), Number(control.tilt.value))));
  }
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  find("figures").addEventListener("keydown", onKey);
  dark.addEventListener("change", draw);
}

// All cameras are locked to one.
const following = new Set();
let leader = null;

function look(camera, from = null) {
  state.camera = camera;
  for (const { div, kind } of figures) {
    if (kind !== "relief" || div === from) continue;
    following.add(div);
    Plotly.relayout(div, { "scene.camera": camera }).finally(() => following.delete(div));
  }
  [control.turn.value, control.tilt.value] = anglesOf(camera).map(Math.round);
}

// The others take the camera of a plot that is turned by hand, as fast as they can and until it rests: where frames are slow
// plotly turns on after it has said how far. What a plot says of its own while it follows leads nobody.
const REST = 10; // frames

function lead(div) {
  if (leader === div || following.has(div)) return;
  leader = div;
  let seen = "", sent = "", quiet = 0;
  const step = () => {
    if (leader !== div) return;
    const camera = cameraOf(div), now = JSON.stringify(camera);
    quiet = now === seen ? quiet + 1 : 0;
    seen = now;
    if (!following.size && now !== sent) {
      look(camera, div);
      sent = now;
    }
    if (quiet > REST && now === sent && !following.size) leader = null;
    else requestAnimationFrame(step);
  };
  step();
}

function cameraOf(div) {
  const { scene } = div._fullLayout;
  return scene._scene?.getCamera() ?? scene.camera;
}
