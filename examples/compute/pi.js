// One slice: throws so many darts at a square, and counts those inside the circle. Each slice has its own
// seed, so that it gives the same count wherever and however often it runs.
(seed, darts) => {
  let state = seed >>> 0, inside = 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  for (let n = 0; n < darts; n++) {
    const x = random(), y = random();
    if (x * x + y * y <= 1) inside++;
    if (n % 100000 === 0) progress(n / darts);
  }
  return inside;
}
