// Puts cards, plots and origins on the page once, wires them to the state, and begins.

const SHOWS = { relief: "Surface in three dimensions", contours: "Contours", line: "Curves", density: "Density of the Hessian's eigenvalues" };

function cardOf(surface) {
  const card = find("card").content.cloneNode(true);
  const heading = card.querySelector("h2");
  heading.textContent = surface.title;
  heading.hidden = surface.title === PAGE.title; // said once is enough
  card.querySelector(".facts").textContent = [...surface.facts, ...(isPoint ? surface.density.facts : [])].filter((fact, at, all) => all.indexOf(fact) === at).join(" · ");
  card.querySelector(".runs").append(...surface.runs.filter((run) => run.name).map((run) => legendEntry(run.name, run.colour)));
  const pair = card.querySelector(".pair");
  const kinds = isPoint ? { density } : isLine ? { line } : { relief, contours };
  for (const [kind, drawn] of Object.entries(kinds)) pair.append(plot(kind, surface, drawn));
  return card;
}

function plot(kind, surface, drawn) {
  const div = document.createElement("div");
  div.className = kind;
  named(div, `${SHOWS[kind]}: ${surface.title}`);
  figures.push({ div, kind, draw: (view) => drawn(surface, view) });
  return div;
}

function named(div, label) {
  div.setAttribute("role", "group");
  div.setAttribute("aria-label", label);
}

// One legend for both slices, as text that wraps: plotly's would lie over the plots on a phone.
function legendEntry(name, colour) {
  const entry = element("li", name);
  entry.style.setProperty("--colour", colour);
  return entry;
}

function originOf(surface) {
  const origin = find("origin").content.cloneNode(true);
  origin.querySelector("summary").textContent = `${surface.title}: where it comes from (${surface.file})`;
  for (const [label, value] of surface.provenance) {
    origin.querySelector("dl").append(element("dt", label), element("dd", value));
  }
  const job = origin.querySelector("pre");
  if (surface.job === null) job.remove();
  else job.textContent = surface.job;
  return origin;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function build() {
  document.title = PAGE.title;
  document.body.classList.toggle("of-lines", isLine);
  for (const part of document.querySelectorAll(".of-planes")) part.hidden = isLine;
  if (isPoint) {
    find("controls").hidden = true; // there is nothing to choose
    find("figures").setAttribute("aria-label", "Figures");
  }
  find("title").textContent = PAGE.title;
  find("program").textContent = PAGE.program;
  find("figures").append(...SURFACES.map(cardOf));
  find("origins").append(...SURFACES.map(originOf));
  if (SURFACES.length > 1) find("legend").append(...SURFACES.map((surface) => legendEntry(surface.title, colourOf(surface))));
  for (const axis of isLine ? [] : ["alpha", "beta"]) {
    figures.push({ div: find(`along-${axis}`), kind: "slice", axis, draw: (view) => slice(SURFACES, view, axis) });
  }
  fillControls();
}

function fillControls() {
  const generals = [...new Set(PAGE.metrics.map((metric) => metric.general))];
  offer(control.metric, generals.map((general) => [general, general]));
  for (const axis of ["alpha", "beta"]) control[axis].max = SURFACES[0][axis].length - 1;
  [control.low.value, control.high.value] = [state.low, state.high];
  find("depth").hidden = !GAMMA;
  if (GAMMA) control.gamma.max = GAMMA.length - 1;
  find("filling").hidden = !SURFACES.some((surface) => surface.filled);
}

function wire() {
  for (const { div, kind, axis } of figures) {
    if (kind === "relief") wireRelief(div);
    else if (kind !== "density") div.on("plotly_click", (event) => clicked(event.points[0], kind, axis));
  }
}

function wireRelief(div) {
  for (const name of ["plotly_hover", "plotly_click"]) div.on(name, (event) => pointed(div, event.points[0]));
  div.on("plotly_unhover", () => left(div));
  for (const name of ["plotly_relayout", "plotly_relayouting"]) {
    div.on(name, (event) => { if (event["scene.camera"]) lead(div); });
  }
}

// In three dimensions plotly says "clicked" while a surface is pressed, also where it is then turned, and only if it draws a
// frame meanwhile. A click is here a press and a release in one place, on what plotly last said is, or next says is, there.
const STILL = 5, LATE = 1500; // pixels, milliseconds
const pointer = { down: null, over: null, awaited: null };

function pointed(div, { x, y }) {
  pointer.over = { div, place: { alpha: x, beta: y } };
  if (pointer.awaited?.div === div && performance.now() < pointer.awaited.until) put(pointer.over.place);
  pointer.awaited = null;
}

function left(div) {
  if (pointer.over?.div === div) pointer.over = null;
}

function pressed({ clientX: x, clientY: y }) {
  Object.assign(pointer, { down: { x, y }, awaited: null });
}

function released({ type, pointerType, target, clientX, clientY }) {
  const { down, over } = pointer, div = target.tagName === "CANVAS" && target.closest(".relief");
  pointer.down = null;
  if (type !== "pointerup" || !down || !div || Math.hypot(clientX - down.x, clientY - down.y) >= STILL) return;
  if (pointerType === "mouse" && over?.div === div) put(over.place);
  else pointer.awaited = { div, until: performance.now() + LATE }; // nobody hovers with a finger
}

function clicked({ x, y }, kind, axis) {
  put(kind === "slice" ? { [axis]: x } : isLine ? { alpha: x } : { alpha: x, beta: y });
}

// Later, and once: plotly says it again while it draws.
function put(news) {
  const place = { ...state.place, ...news };
  setTimeout(() => {
    if (place.alpha !== state.place.alpha || place.beta !== state.place.beta) change({ place });
  });
}

function watchPointer() {
  addEventListener("pointerdown", pressed, true);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, released, true);
}

build();
draw();
wire();
watchPointer();
listen();
