// The one scale of colours and heights that all surfaces share; knows nothing of figures.

const DECADES_FOR_LOG = 1.5;
const MOST_TICKS = 7, MOST_LEVELS = 14;
const SMALL_RANGE = 1e-3; // relative to the values: beyond that a browser's 32-bit heights have steps that can be seen

// {low, high, log, floor, cut, base}: the ends, and on a log scale what a value of 0 is drawn at; `cut` where values lie
// beyond; heights are above `base`, which is 0 but for small ranges.
function scaleOf(range, unit, options) {
  const log = options.scale === "logarithmic" ? canLog(range) : options.scale === "automatic" && suitsLog(range, unit);
  const low = endOf(options.low, log ? range.positive : range.low, log);
  const high = endOf(options.high, range.high, log);
  const ends = low < high ? [low, high] : low === high && !options.low && !options.high ? room(low) : null;
  const floor = log && range.low <= 0 ? range.positive : null;
  const [first, last] = ends ?? (log ? [range.positive, range.high] : [range.low, range.high]);
  const base = !log && last - first < SMALL_RANGE * Math.max(Math.abs(first), Math.abs(last)) ? first : 0;
  return { low: first, high: last, log, floor, base, refused: !ends, cut: range.low < first && floor === null || range.high > last };
}

function rangeOf(arrays) {
  const range = { low: Infinity, high: -Infinity, positive: Infinity };
  for (const value of arrays.flatMap((array) => Array.from(array)).filter(Number.isFinite)) {
    range.low = Math.min(range.low, value);
    range.high = Math.max(range.high, value);
    if (value > 0) range.positive = Math.min(range.positive, value);
  }
  return range;
}

// The range of a metric on all surfaces.
function rangeOfMetric(name) {
  return remembered(["range", name], () => rangeOf(SURFACES.map((surface) => surface.all[name])));
}

// How many digits tell the values of a range apart.
function digitsOf({ low, high }) {
  const digits = Math.ceil(Math.log10(Math.max(Math.abs(low), Math.abs(high)) / (high - low))) + 3;
  return digits > 4 && digits <= 15 ? digits : 4;
}

function canLog(range) {
  return range.low >= 0 && Number.isFinite(range.positive);
}

// The same rule as that of the figures: a linear scale would lose values of more than 1.5 decades.
function suitsLog(range, unit) {
  return unit !== "%" && canLog(range) && Math.log10(range.high / range.positive) > DECADES_FOR_LOG;
}

function endOf(asked, automatic, log) {
  const value = asked === "" ? NaN : Number(asked);
  return Number.isFinite(value) && !(log && value <= 0) ? value : automatic;
}

function room(value) {
  return value > 0 ? [0.9 * value, 1.1 * value] : [value - 0.5, value + 0.5];
}

// A value as a height: within the scale, its log10 where that is logarithmic; null where there is none.
function heightOf(scale, value) {
  if (!Number.isFinite(value)) return null;
  const lifted = scale.floor !== null && value <= 0 ? scale.floor : value;
  const inside = Math.min(Math.max(lifted, scale.low), scale.high);
  return scale.log ? Math.log10(inside) : inside - scale.base;
}

function heightsEnds(scale) {
  return [heightOf(scale, scale.low), heightOf(scale, scale.high)];
}

// Plotly's options for an axis of heights: round values in units of the metric, also where heights are logarithms.
function ticksOf(scale, most = MOST_TICKS) {
  if (!scale.log) return { tickmode: "auto", nticks: most, exponentformat: "power" };
  const ticks = logTicks(scale.low, scale.high, most);
  return { tickmode: "array", tickvals: ticks.map(Math.log10), ticktext: ticks.map((tick) => shown(tick)) };
}

function logTicks(low, high, most = MOST_TICKS) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  for (let stride = 1; ; stride++) {
    for (const mantissas of stride === 1 ? [[1, 2, 5], [1, 3], [1]] : [[1]]) {
      const ticks = [];
      for (let power = first; power <= last; power += stride) {
        ticks.push(...mantissas.map((mantissa) => Number(`${mantissa}e${power}`)));
      }
      const inside = ticks.filter((tick) => low <= tick && tick <= high);
      if (inside.length <= most) return inside.length ? inside : [low, high];
    }
  }
}

// {start, end, size} of evenly spaced round contour levels, in heights.
function levelsOf(scale) {
  const [low, high] = heightsEnds(scale), least = (high - low) / MOST_LEVELS;
  const power = 10 ** Math.floor(Math.log10(least));
  const size = power * [1, 2, 2.5, 5, 10].find((step) => step * power >= least * (1 - 1e-9));
  return { start: Math.ceil(low / size - 1e-9) * size, end: high, size };
}
