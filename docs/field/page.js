// What is on the page: drawing, sliders, keys. The mathematics is in field.js.
"use strict";

const SPAN = 3.2; // the canvas shows [-SPAN, SPAN] in both directions
const BLUE = "#0072B2";
const ORANGE = "#E69F00";
const BLACK = "#000000";
const $ = (id) => document.getElementById(id);
const canvas = $("plane");
const pen = canvas.getContext("2d");
const GAP = 0.16; // between the points of a drag
const state = { points: [], samples: [], cursor: null, run: null, drawing: false };

const toScreen = (v) => [
  ((v[0] + SPAN) / (2 * SPAN)) * canvas.width,
  ((SPAN - v[1]) / (2 * SPAN)) * canvas.height,
];
const number = (id) => Number($(id).value);

function normal() {
  const r = Math.sqrt(-2 * Math.log(1 - Math.random()));
  const a = 2 * Math.PI * Math.random();
  return [r * Math.cos(a), r * Math.sin(a)];
}

function disc(v, radius, colour, hollow = false) {
  const [x, y] = toScreen(v);
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = pen.strokeStyle = colour;
  hollow ? pen.stroke() : pen.fill();
}

function arrow(from, to) {
  const [x0, y0] = toScreen(from);
  const [x1, y1] = toScreen(to);
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 2) return;
  const shown = Math.min(1, 26 / length); // direction, and length as far as there is room
  const [x, y] = [x0 + shown * (x1 - x0), y0 + shown * (y1 - y0)];
  const angle = Math.atan2(y1 - y0, x1 - x0);
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x, y);
  for (const turn of [2.6, -2.6]) {
    pen.moveTo(x, y);
    pen.lineTo(x + 6 * Math.cos(angle + turn), y + 6 * Math.sin(angle + turn));
  }
  pen.stroke();
}

function draw() {
  const logSnr = number("level");
  const { alpha, sigma } = level(logSnr);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.lineWidth = 1.5;
  if (state.points.length) {
    pen.strokeStyle = "#666666";
    for (let i = 0; i < 17; i += 1) {
      for (let j = 0; j < 17; j += 1) {
        const x = [-SPAN + (2 * SPAN * (i + 0.5)) / 17, -SPAN + (2 * SPAN * (j + 0.5)) / 17];
        arrow(x, denoise(state.points, number("width"), x, logSnr));
      }
    }
  }
  state.points.forEach((x) => disc(x, 6, BLUE));
  state.samples.forEach((x) => disc(x, 3.5, ORANGE));
  if (state.cursor) disc(state.cursor, 9, BLACK, true);
  $("level-says").textContent =
    `log_snr ${logSnr.toFixed(1)}: signal ${alpha.toFixed(2)}, noise ${sigma.toFixed(2)}`;
  $("width-says").textContent = number("width").toFixed(2);
  $("steps-says").textContent = String(number("steps"));
}

function say(words) {
  $("status").textContent = words;
}

function count() {
  const n = state.points.length;
  say(n ? `${n} point${n > 1 ? "s" : ""}` : "no points: draw some");
  draw();
}

function add(point) {
  state.points.push(point);
  count();
}

// Samples on their way have nowhere to go once the points are others.
function replace(points) {
  if (state.run) cancelAnimationFrame(state.run);
  state.run = null;
  state.points = points;
  state.samples = [];
  count();
}

function finish() {
  const near = state.samples.map((x) =>
    Math.min(...state.points.map((m) => Math.hypot(x[0] - m[0], x[1] - m[1]))),
  );
  const mean = near.reduce((a, b) => a + b, 0) / near.length;
  canvas.dataset.distance = String(mean);
  say(`${near.length} samples have arrived, ${mean.toFixed(2)} from the nearest point on average`);
  state.run = null;
}

function run() {
  if (!state.points.length) return say("Draw some points first.");
  if (state.run) cancelAnimationFrame(state.run);
  const path = levels(number("steps"));
  const quick = matchMedia("(prefers-reduced-motion: reduce)").matches;
  state.samples = Array.from({ length: 250 }, normal);
  let k = 0;
  const next = () => {
    state.samples = step(state.points, number("width"), state.samples, path[k], path[k + 1]);
    k += 1;
    $("level").value = path[k];
    if (!quick) draw();
    if (k + 1 < path.length) {
      state.run = quick ? next() : requestAnimationFrame(next);
    } else {
      draw();
      finish();
    }
  };
  say("running");
  next();
}

function example(name) {
  const turn = (k, n) => (2 * Math.PI * k) / n;
  const made = {
    ring: Array.from({ length: 24 }, (_, k) => [1.6 * Math.cos(turn(k, 24)), 1.6 * Math.sin(turn(k, 24))]),
    moons: Array.from({ length: 32 }, (_, k) => {
      const a = (Math.PI * (k % 16)) / 15;
      const up = k < 16 ? [Math.cos(a), Math.sin(a)] : [1 - Math.cos(a), 0.5 - Math.sin(a)];
      return [1.4 * (up[0] - 0.5), 1.4 * (up[1] - 0.25)];
    }),
    three: [[-1.6, -1], [1.6, -1], [0, 1.6]],
  };
  replace(made[name]);
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) / box.width) * 2 * SPAN - SPAN,
    SPAN - ((event.clientY - box.top) / box.height) * 2 * SPAN,
  ];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  canvas.setPointerCapture(event.pointerId);
  state.drawing = true;
  add(place(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (!state.drawing || !event.isPrimary || !state.points.length) return;
  const to = place(event);
  if (Math.max(...to.map(Math.abs)) > SPAN) return; // beyond the picture
  const from = state.points[state.points.length - 1];
  const away = Math.hypot(to[0] - from[0], to[1] - from[1]);
  if (away < GAP) return;
  for (let k = 1; k * GAP <= away; k += 1) {
    state.points.push(from.map((v, i) => v + ((k * GAP) / away) * (to[i] - v)));
  }
  count();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    if (event.isPrimary) state.drawing = false;
  });
}
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return; // the browser's own keys
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const at = state.cursor || [0, 0];
  if (moves[event.key]) {
    state.cursor = at.map((v, i) => Math.max(-SPAN, Math.min(SPAN, v + 0.2 * moves[event.key][i])));
    say(`cursor at ${state.cursor.map((v) => v.toFixed(1)).join(", ")}`);
  } else if (event.key === "Enter" || event.key === " ") {
    if (!event.repeat) add([...at]); // a key held down is one point
  } else {
    return;
  }
  event.preventDefault();
  draw();
});
canvas.addEventListener("focus", () => {
  if (canvas.matches(":focus-visible")) state.cursor = [0, 0]; // who comes by keys sees it
  draw();
});
canvas.addEventListener("blur", () => {
  state.cursor = null;
  draw();
});
for (const id of ["level", "width", "steps"]) $(id).addEventListener("input", draw);
for (const name of ["three", "ring", "moons"]) $(name).addEventListener("click", () => example(name));
$("run").addEventListener("click", run);
$("clear").addEventListener("click", () => replace([]));
example("three");
