// The best possible denoiser of a cloud of points, and jumps that follow it.
// The formula is that of gdm_course/diffusion/mixture.py, MixtureDenoiser; a test compares them.
"use strict";

const sigmoid = (v) => 1 / (1 + Math.exp(-v));

// Signal and noise: alpha^2 + sigma^2 = 1, log(alpha^2 / sigma^2) = logSnr.
function level(logSnr) {
  return { alpha: Math.sqrt(sigmoid(logSnr)), sigma: Math.sqrt(sigmoid(-logSnr)) };
}

// E[x0 | x_t]: points [[x, y], ...], all as likely, each a Gaussian of standard deviation width.
function denoise(points, width, x, logSnr) {
  const { alpha, sigma } = level(logSnr);
  const variance = alpha * alpha * width * width + sigma * sigma;
  const gain = (alpha * width * width) / variance;
  const away = points.map((m) => [x[0] - alpha * m[0], x[1] - alpha * m[1]]);
  const logs = away.map((d) => -(d[0] * d[0] + d[1] * d[1]) / (2 * variance));
  const top = logs.reduce((a, b) => Math.max(a, b), -Infinity); // far out nothing underflows
  let total = 0;
  const answer = [0, 0];
  points.forEach((m, k) => {
    const r = Math.exp(logs[k] - top);
    total += r;
    answer[0] += r * (m[0] + gain * away[k][0]);
    answer[1] += r * (m[1] + gain * away[k][1]);
  });
  return [answer[0] / total, answer[1] / total];
}

// A jump of DDIM without noise, from one level to another.
function jump(x, clean, from, to) {
  const a = level(from);
  const b = level(to);
  return [0, 1].map((i) => {
    const eps = (x[i] - a.alpha * clean[i]) / a.sigma;
    return b.alpha * clean[i] + b.sigma * eps;
  });
}

// Levels of equal steps of the angle phi, alpha = cos phi, from noise to data.
function levels(steps, low = -8, high = 12) {
  const angle = (l) => Math.atan2(level(l).sigma, level(l).alpha);
  const first = angle(low);
  const last = angle(high);
  return Array.from({ length: steps + 1 }, (_, k) => {
    const phi = first + ((last - first) * k) / steps;
    return 2 * Math.log(Math.cos(phi) / Math.sin(phi));
  });
}

// All samples at one level, and then at the next.
function step(points, width, samples, from, to) {
  return samples.map((x) => jump(x, denoise(points, width, x, from), from, to));
}

if (typeof module !== "undefined") {
  module.exports = { level, denoise, jump, levels, step };
}
