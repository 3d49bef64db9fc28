"use strict";
// The data of the page and what it says of a point in words; knows nothing of figures or of the controls.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const SURFACES = PAGE.surfaces.map(unpacked);
const METRICS = new Map(PAGE.metrics.map((metric) => [metric.name, metric]));
const DONE = 1, FAILED = 2;

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function floats(text) {
  return new Float64Array(bytes(text).buffer);
}

function mapped(object, change) {
  return object && Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

function unpacked(surface) {
  const unpackedRuns = (runs) => runs.map((run) => ({ ...run, columns: mapped(run.columns, floats) }));
  const whole = {
    ...surface,
    alpha: floats(surface.alpha),
    beta: surface.beta ? floats(surface.beta) : new Float64Array(1),
    gamma: surface.gamma && floats(surface.gamma),
    status: bytes(surface.status),
    values: mapped(surface.values, floats),
    filled: mapped(surface.filled, floats),
    runs: unpackedRuns(surface.runs),
    density: surface.density && { ...surface.density, columns: mapped(surface.density.columns, floats) },
    layers: surface.layers && surface.layers.map(unpackedRuns),
  };
  return { ...whole, layer: 0, all: whole.values, whole };
}

// Let a surface show the plane of its volume that is nearest to a gamma; `all` stays the values of the whole volume.
function cut(surface, gamma) {
  const { whole } = surface;
  if (!whole.gamma) return;
  const layer = nearest(whole.gamma, gamma), size = whole.alpha.length * whole.beta.length;
  const plane = (array) => array.subarray(layer * size, (layer + 1) * size);
  Object.assign(surface, {
    layer, isAtZero: whole.gamma[layer] === 0, status: plane(whole.status), values: mapped(whole.values, plane), filled: mapped(whole.filled, plane),
    runs: whole.layers[layer],
  });
}

// Values of a metric, flat, row by row; with `fill` those between computed points are interpolated.
function valuesOf(surface, metric, fill) {
  return (fill && surface.filled?.[metric]) || surface.values[metric];
}

// [[...], ...], one row a beta.
function rowsOf(surface, valueAt) {
  const columns = surface.alpha.length;
  return Array.from(surface.beta, (_, row) => Array.from(surface.alpha, (_, column) => valueAt(row * columns + column)));
}

function nearest(axis, value) {
  let best = 0;
  axis.forEach((each, index) => { if (Math.abs(each - value) < Math.abs(axis[best] - value)) best = index; });
  return best;
}

// The grid point of a surface that is nearest to a place.
function gridPoint(surface, place) {
  const column = nearest(surface.alpha, place.alpha), row = nearest(surface.beta, place.beta);
  return { column, row, alpha: surface.alpha[column], beta: surface.beta[row], index: row * surface.alpha.length + column };
}

// Bilinear between the four points around a place; NaN outside the plane or beside a gap.
function heightAt(surface, values, alpha, beta) {
  const [left, right, x] = around(surface.alpha, alpha), [low, high, y] = around(surface.beta, beta);
  const at = (row, column) => values[row * surface.alpha.length + column];
  const along = (row) => mix(at(row, left), at(row, right), x);
  return mix(along(low), along(high), y);
}

function mix(first, second, share) {
  return share === 0 ? first : share === 1 ? second : first + share * (second - first);
}

// The two indices of an axis around a value, and how far it is from the first to the second; NaN outside.
function around(axis, value) {
  for (let index = 0; index + 1 < axis.length; index++) {
    const share = (value - axis[index]) / (axis[index + 1] - axis[index]);
    if (share >= 0 && share <= 1) return [index, index + 1, share];
  }
  return [0, 0, NaN];
}

function shown(value, digits = 4) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "inf" : "\u2212inf";
  const rounded = Number(value.toPrecision(digits)), long = Math.abs(rounded) >= 1e6;
  return (long ? rounded.toExponential().replace("+", "") : String(rounded)).replaceAll("-", "\u2212");
}

// What is known at a point: its place, loss and accuracy of the metric's split, and the metric itself.
function pointLines(surface, metric, index) {
  const columns = surface.alpha.length, alpha = surface.alpha[index % columns];
  const beta = surface.isLine ? "" : `, β = ${shown(surface.beta[Math.floor(index / columns)])}`;
  const gamma = surface.gamma ? `, γ = ${shown(surface.gamma[surface.layer])}` : "";
  const place = `α = ${shown(alpha)}${beta}${gamma}`;
  if (surface.status[index] === FAILED) return [place, "failed: no result"];
  if (surface.status[index] !== DONE) return [place, "not computed yet"];
  const split = METRICS.get(metric).split ?? PAGE.metrics.find((each) => each.split)?.split;
  const names = [...new Set([`${split}_loss`, `${split}_acc`, metric])];
  return [place, ...names.filter((name) => METRICS.has(name)).map((name) => valueLine(surface, name, index))];
}

function valueLine(surface, name, index) {
  const { words, unit } = METRICS.get(name);
  const value = (suffix) => surface.values[name + suffix]?.[index];
  const within = (suffix, meaning) => (value(suffix) === undefined ? "" : ` ± ${shown(value(suffix))} (${meaning})`);
  const suffixed = `${within("_stderr", "standard error")}${within("_bar", "95 % error bar")}`;
  return `${words}: ${shown(value(""), digitsOf(rangeOfMetric(name)))}${unit && ` ${unit}`}${suffixed}`;
}
