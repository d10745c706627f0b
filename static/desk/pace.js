// Draws what arrives without flicker: at once when it is quiet, eight times a second at most, once a second in a storm.
const QUIET = 125;
const BURST = 250;         // so long a look is enough to see a storm begin
const STORM = 1000;
const MANY = 36;           // arrivals a second that make a storm; one in ten of 200 payments/s is none

// pace(draw) gives soon(n): n things arrived, draw when it is time. Between two drawings lies at least the gap of the
// moment; `quiet` is the gap while there is no storm, in milli-seconds.
export function pace(draw, quiet = QUIET) {
  let drawnAt = -Infinity;
  let timer = 0;
  let arrivals = [];
  function left() {
    const at = performance.now();
    arrivals = arrivals.filter((each) => at - each.at < STORM);
    const within = (time) => arrivals.reduce((sum, each) => sum + (at - each.at < time ? each.count : 0), 0);
    const storm = within(STORM) > MANY || within(BURST) * (STORM / BURST) > MANY;
    return (storm ? STORM : quiet) - (at - drawnAt);
  }
  function now() {
    const rest = left();   // a storm may have begun while this waited
    if (rest > 5) { timer = setTimeout(now, rest); return; }
    timer = 0;
    drawnAt = performance.now();
    draw();
  }
  return function soon(count = 1) {
    if (count) arrivals.push({ at: performance.now(), count });
    if (!timer) timer = setTimeout(now, Math.max(0, left()));
  };
}
