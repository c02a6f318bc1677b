// Draw how many records there are of which kind, and how many images there were, along the log.

const SVG = "http://www.w3.org/2000/svg";
const GROUPS = ["created", "deleted", "other"];

/** Return a new element of SVG with attributes. */
function drawing(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Return in which group of bars a record counts. */
function groupOf(history, at) {
  const what = history.records.kind[at];
  if (what === history.kind.created) return 0;
  return what === history.kind.deleted ? 1 : 2;
}

/** Draw the records in bars over their positions, the images as a line, days below. */
class Timeline {
  constructor(svg, jump) {
    this.svg = svg;
    svg.addEventListener("click", (event) => {
      const { left, width } = svg.getBoundingClientRect();
      const share = Math.max(0, Math.min(1, (event.clientX - left) / width));
      jump(Math.round(this.history.since + share * this.history.length));
    });
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  show(history) {
    this.history = history;
    this.draw();
  }

  draw() {
    const { history, svg } = this;
    const { width, height } = svg.getBoundingClientRect();
    if (history === undefined || width === 0) return;
    const floor = height - 18;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [...this.bars(width, floor), this.line(width, floor), ...this.days(width, height)];
    this.hand = drawing("line", { class: "hand", y1: 0, y2: floor });
    svg.replaceChildren(...parts, this.hand);
    svg.setAttribute(
      "aria-label",
      `${counted(history.length, "record")} from ${clockTime(history.timeAt(history.since + 1))}` +
        ` to ${clockTime(history.timeAt(history.last))}; ${counted(history.newest.count, "image")} at the end`,
    );
    this.point(this.position ?? history.last);
  }

  /** Return where along the width a position is. */
  place(position, width) {
    return this.history.length === 0 ? 0 : ((position - this.history.since) / this.history.length) * width;
  }

  bars(width, floor) {
    const { history } = this;
    const each = Math.max(1, Math.ceil((4 * history.length) / width)); // records in a bar
    const bins = Array.from({ length: Math.ceil(history.length / each) }, () => [0, 0, 0]);
    for (let at = 0; at < history.length; at += 1) bins[Math.floor(at / each)][groupOf(history, at)] += 1;
    const most = Math.max(1, ...bins.map((bin) => bin[0] + bin[1] + bin[2]));
    const paths = ["", "", ""];
    const step = (each / Math.max(1, history.length)) * width;
    const wide = Math.max(1, step - 1).toFixed(1);
    bins.forEach((bin, number) => {
      let top = floor;
      bin.forEach((value, group) => {
        const tall = (value / most) * floor * 0.9;
        top -= tall;
        if (value > 0) {
          paths[group] += `M${(number * step).toFixed(1)} ${top.toFixed(1)}h${wide}v${tall.toFixed(1)}h-${wide}z`;
        }
      });
    });
    return paths.map((d, group) => drawing("path", { class: `bar ${GROUPS[group]}`, d }));
  }

  line(width, floor) {
    const { history } = this;
    return drawing("path", { class: "line", d: linePath(history, width, floor, (at) => this.place(history.since + at + 1, width)) });
  }

  /** Return marks where days begin, as far apart as they must be to be read. */
  days(width, height) {
    const { history } = this;
    const marks = [];
    let before = "";
    let free = 0;
    for (let at = 0; at < history.length; at += 1) {
      const x = this.place(history.since + at, width);
      if (x < free || x > width - 70) continue;
      const day = dayOf(history.times[at]);
      if (day === before) continue;
      before = day;
      free = x + 90;
      const text = drawing("text", { class: "day", x: x.toFixed(1), y: height - 4 });
      text.textContent = day;
      marks.push(text);
    }
    return marks;
  }

  /** Show where the slider is. */
  point(position) {
    this.position = position;
    if (this.hand === undefined) return;
    const x = this.place(position, this.svg.getBoundingClientRect().width).toFixed(1);
    this.hand.setAttribute("x1", x);
    this.hand.setAttribute("x2", x);
  }
}

/**
 * Return the path of the number of images; `place` says where along the width a record is.
 *
 * It stays level between records, and goes through all that there was at a place.
 */
function linePath(history, width, floor, place) {
  const most = history.counts.reduce((a, b) => Math.max(a, b), 1);
  const heightOf = (count) => (floor - (count / most) * floor * 0.9).toFixed(1);
  let last = history.states[0].count;
  let [x, least, greatest] = [0, last, last];
  let d = `M0 ${heightOf(last)}`;
  const end = () => (least === greatest ? "" : `H${x}V${heightOf(least)}V${heightOf(greatest)}V${heightOf(last)}`);
  for (let at = 0; at < history.length; at += 1) {
    const next = Math.round(place(at) * 2) / 2; // no screen shows more
    if (next !== x) {
      d += end();
      [x, least, greatest] = [next, last, last];
    }
    last = history.counts[at];
    least = Math.min(least, last);
    greatest = Math.max(greatest, last);
  }
  return `${d}${end()}H${width}`;
}

/** Return a plot of the number of images over time, with what it says in words. */
function growthPlot(history) {
  const [width, height] = [600, 110];
  const from = history.length > 0 ? history.times[0] : history.sinceTime;
  const until = history.timeAt(history.last);
  const span = Math.max(1, until - from);
  const most = history.counts.reduce((a, b) => Math.max(a, b), history.states[0].count);
  const place = (at) => ((history.times[at] - from) / span) * width;
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", "aria-hidden": "true" });
  svg.setAttribute("preserveAspectRatio", "none");
  const line = { class: "line", d: linePath(history, width, height, place), "vector-effect": "non-scaling-stroke" };
  svg.append(drawing("path", line));
  const figure = element("figure");
  const words = `Images over time, from ${clockTime(from)} to ${clockTime(until)}: `;
  figure.append(svg, element("figcaption", "quiet", `${words}${grouped(most)} at most, ${grouped(history.newest.count)} at the end`));
  return figure;
}

/** Return a table of how many records there are of each kind. */
function kindsTable(history) {
  const counts = history.kinds.map(() => 0);
  for (const what of history.records.kind) counts[what] += 1;
  const table = element("table");
  const caption = element("caption", "", "Records by kind");
  table.append(caption);
  history.kinds.forEach((name, number) => {
    if (counts[number] === 0) return;
    const row = table.insertRow();
    const heading = element("th", "", name);
    heading.scope = "row";
    row.append(heading, element("td", "number", grouped(counts[number])));
  });
  return table;
}
